//! Functions over the samples of a window, with the arithmetic of Prometheus 3: sums are
//! compensated (Kahan–Neumaier), rates extrapolate to the window's ends.

/// What a function over a window is given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window<'a> {
    /// The samples after `start_ms` up to `end_ms`, oldest first; never empty.
    pub samples: &'a [(i64, f64)],
    /// The window's start, which is not in it.
    pub start_ms: i64,
    /// The window's end, which is in it.
    pub end_ms: i64,
    /// The step's time; with an offset it differs from `end_ms`.
    pub at_ms: i64,
    /// Further arguments.
    pub args: [f64; 2],
    /// Whether no sample is less than the one before, in this window and around it.
    pub is_rising: bool,
}

/// A sum that keeps what additions lose.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Kahan {
    sum: f64,
    lost: f64,
}

impl Kahan {
    /// Adds a value.
    #[inline]
    pub(crate) fn add(&mut self, value: f64) {
        let sum = self.sum + value;
        if sum.is_infinite() {
            self.lost = 0.0;
        } else if self.sum.abs() >= value.abs() {
            self.lost += (self.sum - sum) + value;
        } else {
            self.lost += (value - sum) + self.sum;
        }
        self.sum = sum;
    }

    /// The sum.
    pub(crate) fn total(self) -> f64 {
        self.sum + self.lost
    }

    /// The sum divided by `count`.
    pub(crate) fn mean(self, count: f64) -> f64 {
        self.sum / count + self.lost / count
    }

    /// Whether the sum exceeds what a number can be.
    pub(crate) fn overflowed(self) -> bool {
        self.sum.is_infinite()
    }
}

fn values<'a>(window: &Window<'a>) -> impl Iterator<Item = f64> + Clone + use<'a> {
    window.samples.iter().map(|&(_, value)| value)
}

fn secs(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}

/// Per second, of a counter.
pub(crate) fn rate(window: &Window<'_>) -> Option<f64> {
    extrapolated(window, true).map(|sum| sum / secs(window.end_ms - window.start_ms))
}

/// Over the window, of a counter.
pub(crate) fn increase(window: &Window<'_>) -> Option<f64> {
    extrapolated(window, true)
}

/// Over the window, of a gauge.
pub(crate) fn delta(window: &Window<'_>) -> Option<f64> {
    extrapolated(window, false)
}

fn extrapolated(window: &Window<'_>, is_counter: bool) -> Option<f64> {
    let samples = window.samples;
    let (&(first_ms, first), &(last_ms, last)) = (samples.first()?, samples.last()?);
    if samples.len() < 2 {
        return None;
    }
    let mut change = last - first;
    if is_counter && !window.is_rising {
        let mut before = first;
        for &(_, value) in &samples[1..] {
            if value < before {
                change += before;
            }
            before = value;
        }
    }
    let sampled = secs(last_ms - first_ms);
    let gap = sampled / (samples.len() - 1) as f64;
    let far = gap * 1.1;
    let mut to_start = secs(first_ms - window.start_ms);
    if to_start >= far {
        to_start = gap / 2.0;
    }
    if is_counter && change > 0.0 && first >= 0.0 {
        // A counter is not carried back to where it would be below zero.
        to_start = to_start.min(sampled * (first / change));
    }
    let mut to_end = secs(window.end_ms - last_ms);
    if to_end >= far {
        to_end = gap / 2.0;
    }
    Some(change * ((sampled + to_start + to_end) / sampled))
}

/// Per second between the last two samples, of a counter.
pub(crate) fn irate(window: &Window<'_>) -> Option<f64> {
    let [.., (before_ms, before), (ms, value)] = window.samples else { return None };
    let change = if value < before { *value } else { value - before };
    Some(change / secs(ms - before_ms))
}

/// Between the last two samples.
pub(crate) fn idelta(window: &Window<'_>) -> Option<f64> {
    let [.., (_, before), (_, value)] = window.samples else { return None };
    Some(value - before)
}

/// Slope per second and value at `at_ms` of the least-squares line.
fn regression(samples: &[(i64, f64)], at_ms: i64) -> (f64, f64) {
    let first = samples.first().map_or(f64::NAN, |&(_, value)| value);
    if samples.iter().all(|&(_, value)| value == first) {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let (mut x_sum, mut y_sum) = (Kahan::default(), Kahan::default());
    let (mut xy_sum, mut xx_sum) = (Kahan::default(), Kahan::default());
    for &(ms, y) in samples {
        let x = secs(ms - at_ms);
        x_sum.add(x);
        y_sum.add(y);
        xy_sum.add(x * y);
        xx_sum.add(x * x);
    }
    let count = samples.len() as f64;
    let (x, y) = (x_sum.total(), y_sum.total());
    let covariance = xy_sum.total() - x * y / count;
    let variance = xx_sum.total() - x * x / count;
    let slope = covariance / variance;
    (slope, y / count - slope * x / count)
}

/// Slope per second.
pub(crate) fn deriv(window: &Window<'_>) -> Option<f64> {
    let [(first_ms, _), _, ..] = window.samples else { return None };
    Some(regression(window.samples, *first_ms).0)
}

/// Value so many seconds ahead on the least-squares line.
pub(crate) fn predict_linear(window: &Window<'_>) -> Option<f64> {
    if window.samples.len() < 2 {
        return None;
    }
    let (slope, value) = regression(window.samples, window.at_ms);
    Some(slope * window.args[0] + value)
}

/// Changes of the value.
pub(crate) fn changes(window: &Window<'_>) -> Option<f64> {
    let changed = |pair: &&[(i64, f64)]| {
        let (before, value) = (pair[0].1, pair[1].1);
        before != value && !(before.is_nan() && value.is_nan())
    };
    Some(window.samples.windows(2).filter(changed).count() as f64)
}

/// Falls of the value.
pub(crate) fn resets(window: &Window<'_>) -> Option<f64> {
    Some(window.samples.windows(2).filter(|pair| pair[1].1 < pair[0].1).count() as f64)
}

/// Mean.
pub(crate) fn avg(window: &Window<'_>) -> Option<f64> {
    Some(mean(values(window)))
}

/// The mean, also where the sum is more than a number can be.
pub(crate) fn mean(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let (mut sum, mut count) = (Kahan::default(), 0.0);
    for value in values.clone() {
        sum.add(value);
        count += 1.0;
    }
    if !sum.overflowed() {
        return sum.mean(count);
    }
    let (mut mean, mut seen) = (Kahan::default(), 0.0);
    for value in values {
        seen += 1.0;
        let so_far = mean.total();
        if so_far.is_infinite() && (value == so_far || value.is_finite()) {
            continue;
        }
        mean.add(value / seen - so_far / seen);
    }
    mean.total()
}

/// Least value; NaN only where there is nothing else.
pub(crate) fn min(window: &Window<'_>) -> Option<f64> {
    values(window).reduce(
        |least, value| {
            if value < least || least.is_nan() { value } else { least }
        },
    )
}

/// Greatest value; NaN only where there is nothing else.
pub(crate) fn max(window: &Window<'_>) -> Option<f64> {
    values(window).reduce(|most, value| if value > most || most.is_nan() { value } else { most })
}

/// `sum_over_time`: compensated, so that small values are not lost.
pub(crate) fn sum(window: &Window<'_>) -> Option<f64> {
    let mut sum = Kahan::default();
    values(window).for_each(|value| sum.add(value));
    Some(sum.total())
}

/// Number of samples.
pub(crate) fn count(window: &Window<'_>) -> Option<f64> {
    Some(window.samples.len() as f64)
}

/// Population variance.
pub(crate) fn stdvar(window: &Window<'_>) -> Option<f64> {
    Some(variance(values(window)))
}

/// Population standard deviation.
pub(crate) fn stddev(window: &Window<'_>) -> Option<f64> {
    Some(variance(values(window)).sqrt())
}

fn variance(values: impl Iterator<Item = f64>) -> f64 {
    let (mut mean, mut squares, mut count) = (Kahan::default(), Kahan::default(), 0.0);
    for value in values {
        count += 1.0;
        let delta = value - mean.total();
        mean.add(delta / count);
        squares.add(delta * (value - mean.total()));
    }
    squares.total() / count
}

/// 1.
pub(crate) fn present(_: &Window<'_>) -> Option<f64> {
    Some(1.0)
}

/// Newest value.
pub(crate) fn last(window: &Window<'_>) -> Option<f64> {
    window.samples.last().map(|&(_, value)| value)
}

/// Oldest value.
pub(crate) fn first(window: &Window<'_>) -> Option<f64> {
    window.samples.first().map(|&(_, value)| value)
}

/// The quantile of the first argument.
pub(crate) fn quantile(window: &Window<'_>) -> Option<f64> {
    let mut sorted: Vec<f64> = values(window).collect();
    Some(quantile_of(window.args[0], &mut sorted))
}

/// Median absolute deviation.
pub(crate) fn mad(window: &Window<'_>) -> Option<f64> {
    let mut sorted: Vec<f64> = values(window).collect();
    let median = quantile_of(0.5, &mut sorted);
    sorted.iter_mut().for_each(|value| *value = (*value - median).abs());
    Some(quantile_of(0.5, &mut sorted))
}

/// A quantile of values, between two of them where it falls there. Changes their order. NaN counts
/// as less than everything.
pub(crate) fn quantile_of(quantile: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || quantile.is_nan() {
        return f64::NAN;
    }
    if quantile < 0.0 {
        return f64::NEG_INFINITY;
    }
    if quantile > 1.0 {
        return f64::INFINITY;
    }
    let nan_first = |a: &f64, b: &f64| match (a.is_nan(), b.is_nan()) {
        (false, false) => a.total_cmp(b),
        (a, b) => b.cmp(&a),
    };
    let rank = quantile * (values.len() - 1) as f64;
    let lower = rank.floor() as usize;
    let (_, &mut low, above) = values.select_nth_unstable_by(lower, nan_first);
    let high = above.iter().copied().min_by(nan_first).unwrap_or(low);
    let weight = rank - rank.floor();
    low * (1.0 - weight) + high * weight
}

/// Double exponential smoothing with the factors of level and trend.
pub(crate) fn smooth(window: &Window<'_>) -> Option<f64> {
    let [(_, first), (_, second), ..] = window.samples else { return None };
    let [level_factor, trend_factor] = window.args;
    let (mut before, mut level, mut trend) = (0.0, *first, second - first);
    for (index, &(_, value)) in window.samples[1..].iter().enumerate() {
        if index > 0 {
            trend = trend_factor * (level - before) + (1.0 - trend_factor) * trend;
        }
        let next = level_factor * value + (1.0 - level_factor) * (level + trend);
        (before, level) = (level, next);
    }
    Some(level)
}
