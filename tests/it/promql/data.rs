//! Series for queries, the same in every run, and remote write of them.

use oxmon::server::receive::proto::{put_bytes, put_double, put_int};

/// A series: labels, then Unix milliseconds and value of each sample.
pub type Series = (Vec<(String, String)>, Vec<(i64, f64)>);

/// Between two samples.
pub const STEP_MS: i64 = 15_000;
/// Samples of a series.
pub const SAMPLES: i64 = 480;

/// Every series, from `start_ms` on.
pub fn all(start_ms: i64) -> Vec<Series> {
    let mut out = Vec::new();
    let mut add = |labels: &[(&str, &str)], value: &dyn Fn(i64) -> Option<f64>| {
        let mut labels: Vec<(String, String)> =
            labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        labels.sort();
        let sample = |step: i64| Some((start_ms + step * STEP_MS, value(step)?));
        out.push((labels, (0..SAMPLES).filter_map(sample).collect()));
    };
    for host in 1..=4_i64 {
        let name = format!("h{host}");
        let (instance, dc) = (("instance", name.as_str()), if host % 2 > 0 { "a" } else { "b" });
        let wave = move |step: i64, period: f64| (step as f64 / period + host as f64 * 1.7).sin();
        add(&[("__name__", "g"), instance, ("dc", dc)], &|step| {
            Some(50.0 + 30.0 * wave(step, 37.0) + (step * 7 % 11) as f64 + host as f64 / 8.0)
        });
        add(&[("__name__", "neg"), instance], &|step| {
            Some(wave(step, 23.0) * 12.0 + host as f64 / 16.0)
        });
        add(&[("__name__", "gap"), instance], &|step| {
            let hole = (step + host * 13) % 60 < 25;
            (!hole).then_some((1_000 + step * host % 17) as f64)
        });
        for cpu in 0..2_i64 {
            let cpu_name = cpu.to_string();
            add(&[("__name__", "c"), instance, ("cpu", &cpu_name)], &|step| {
                // Each begins again at its own time.
                let since = (step + 150 * host + 70 * cpu) % 400;
                Some((5_000 + since * (3 + host) + step * 5 % 7) as f64)
            });
        }
        let os = if host > 2 { "linux" } else { "bsd" };
        add(&[("__name__", "info"), instance, ("os", os), ("version", &name)], &|_| Some(1.0));
        for (place, bound) in ["0.1", "0.5", "1", "2.5", "+Inf"].into_iter().enumerate() {
            add(&[("__name__", "lat_bucket"), instance, ("le", bound)], &|step| {
                Some(((100 + step) * host * (place as i64 + 1) + step % 3 * place as i64) as f64)
            });
        }
        add(&[("__name__", "lat_count"), instance], &|step| {
            Some(((100 + step) * host * 5 + step % 3 * 4) as f64)
        });
        add(&[("__name__", "lat_sum"), instance], &|step| Some((100 + step) as f64 * 1.25));
    }
    add(&[("__name__", "gone"), ("instance", "h1")], &|step| {
        (step < SAMPLES / 2).then_some(step as f64)
    });
    out
}

/// A remote write 1.0 request, before it is packed.
pub fn request(series: &[Series]) -> Vec<u8> {
    let mut out = Vec::new();
    for (labels, samples) in series {
        let mut one = Vec::new();
        for (name, value) in labels {
            let mut label = Vec::new();
            put_bytes(&mut label, 1, name.as_bytes());
            put_bytes(&mut label, 2, value.as_bytes());
            put_bytes(&mut one, 1, &label);
        }
        for &(ms, value) in samples {
            let mut sample = Vec::new();
            put_double(&mut sample, 1, value);
            put_int(&mut sample, 2, ms);
            put_bytes(&mut one, 2, &sample);
        }
        put_bytes(&mut out, 1, &one);
    }
    out
}

/// Sends a request; gives the HTTP status.
pub fn write(url: &str, authorization: &str, content_type: &str, message: &[u8]) -> u16 {
    let packed = snap::raw::Encoder::new().compress_vec(message).expect("snappy");
    let sent = ureq::post(format!("{url}/api/v1/write"))
        .config()
        .http_status_as_error(false)
        .build()
        .header("Authorization", authorization)
        .header("Content-Type", content_type)
        .header("Content-Encoding", "snappy")
        .send(&packed[..]);
    sent.expect("an answer").status().as_u16()
}
