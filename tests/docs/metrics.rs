//! `docs/metrics.md` and its Chinese edition, made from the collectors' table.

use oxmon::agent::collectors::{Metric, OWN_METRICS, Pace, SPECS};

const HEAD: &str = "\
# Metrics

Made from the collectors' table by `make docs`; a test fails when it is stale. Percentages are
rounded to 0.01 and rates to 0.1, those of rare events to 0.001. Each heading is the name of a
collector, which `collectors.disable` of the agent's configuration takes. A rate needs two
collections, so the first one of an agent has none; a counter that went back (a reset, a wrap)
gives no rate for that collection.

";

/// The words of one edition.
struct Edition {
    file: &'static str,
    head: &'static str,
    columns: &'static str,
    minute: &'static str,
    off: &'static str,
    own: &'static str,
    certificates: &'static str,
    server: &'static str,
}

const ENGLISH: Edition = Edition {
    file: "metrics.md",
    head: HEAD,
    columns: "| metric | unit | label | meaning |\n|---|---|---|---|\n",
    minute: " (once a minute)",
    off: " (off unless it is enabled)",
    own: "the agent itself",
    certificates: "certificates",
    server: "The server adds two for each domain that it checks, as those of the agent \
             `cert-checker`; a\nport other than 443 is a label of its own.\n\n",
};

const CHINESE: Edition = Edition {
    file: "metrics.zh-CN.md",
    head: "# 指标\n\n由 `make docs` 依采集器的表生成；过期时测试会失败。百分比保留到 0.01，速率保留到 0.1，\
           罕见事件的速率保留到 0.001。\n每个标题是采集器的名称，agent 配置的 `collectors.disable` \
           使用此名称。速率需要两次采集，因此 agent 的第一次采集没有速率；\n计数器回退（复位、回绕）\
           时该次采集没有速率。\n\n",
    columns: "| 指标 | 单位 | 标签 | 含义 |\n|---|---|---|---|\n",
    minute: "（每分钟一次）",
    off: "（默认关闭）",
    own: "agent 自身",
    certificates: "证书",
    server: "服务器为其检查的每个域名增加两个指标，归于 agent `cert-checker`；443 以外的端口另有标签。\n\n",
};

/// What each metric means, in Chinese.
const CHINESE_MEANINGS: &str = include_str!("metrics.zh-CN.json");

/// Units in Chinese; those that are not here are the same in both.
const CHINESE_UNITS: [(&str, &str); 28] = [
    ("bytes", "字节"),
    ("bytes/s", "字节/s"),
    ("inodes", "inode"),
    ("0 or 1", "0 或 1"),
    ("packets/s", "数据包/s"),
    ("errors/s", "错误/s"),
    ("errors", "错误"),
    ("processes", "进程"),
    ("processes/s", "进程/s"),
    ("operations", "操作"),
    ("operations/s", "操作/s"),
    ("kills", "次"),
    ("faults/s", "次/s"),
    ("threads", "线程"),
    ("switches/s", "次/s"),
    ("files", "文件"),
    ("connections", "连接"),
    ("connections/s", "连接/s"),
    ("bits", "位"),
    ("sockets", "套接字"),
    ("disks", "磁盘"),
    ("tasks", "任务"),
    ("restarts", "次"),
    ("series", "序列"),
    ("batches", "批次"),
    ("calls", "次"),
    ("days", "天"),
    ("steps", "级"),
];

const CERTIFICATES: [Metric; 2] = [
    Metric {
        name: "certificate.days_until_expiry",
        unit: "days",
        labels: &["domain"],
        help: "Days until the served certificate ends; negative once it has.",
    },
    Metric {
        name: "certificate.is_valid",
        unit: "0 or 1",
        labels: &["domain"],
        help: "Whether the certificate is good for its name now, and its chain is trusted.",
    },
];

/// The rows of a heading; `words` gives a metric's unit and meaning in the edition.
fn table<'a>(
    out: &mut String,
    title: &str,
    columns: &str,
    metrics: &'a [Metric],
    words: &dyn Fn(&'a Metric) -> (String, String),
) {
    out.push_str(&format!("## {title}\n\n{columns}"));
    for metric in metrics {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let label = if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
        let (unit, help) = words(metric);
        out.push_str(&format!("| `{}` | {unit} | {label} | {help} |\n", metric.name));
    }
    out.push('\n');
}

fn render(edition: &Edition, words: &dyn Fn(&Metric) -> (String, String)) -> String {
    let mut out = edition.head.to_owned();
    for spec in SPECS {
        let when = match (spec.on, spec.pace) {
            (true, Pace::Always) => "",
            (true, Pace::Minute) => edition.minute,
            (false, _) => edition.off,
        };
        let title = format!("{}{when}", spec.name);
        table(&mut out, &title, edition.columns, spec.metrics, words);
    }
    table(&mut out, edition.own, edition.columns, OWN_METRICS, words);
    out.push_str(edition.server);
    table(&mut out, edition.certificates, edition.columns, &CERTIFICATES, words);
    format!("{}\n", out.trim_end())
}

#[test]
fn metrics_are_documented() {
    let english = |metric: &Metric| (metric.unit.to_owned(), metric.help.to_owned());
    super::check(ENGLISH.file, &render(&ENGLISH, &english));
}

#[test]
fn metrics_are_documented_in_chinese() {
    let meanings: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(CHINESE_MEANINGS).expect("a JSON object");
    let all = SPECS.iter().flat_map(|spec| spec.metrics).chain(OWN_METRICS).chain(&CERTIFICATES);
    let names: Vec<&str> = all.map(|metric| metric.name).collect();
    let missing: Vec<&&str> = names.iter().filter(|name| !meanings.contains_key(**name)).collect();
    assert!(missing.is_empty(), "tests/docs/metrics.zh-CN.json lacks {missing:#?}");
    for name in meanings.keys() {
        assert!(names.contains(&name.as_str()), "{name} of metrics.zh-CN.json is not a metric");
    }
    let chinese = |metric: &Metric| {
        let unit = CHINESE_UNITS.iter().find(|(unit, _)| *unit == metric.unit);
        let unit = unit.map_or(metric.unit, |(_, unit)| unit).to_owned();
        (unit, meanings[metric.name].as_str().unwrap_or_default().to_owned())
    };
    super::check(CHINESE.file, &render(&CHINESE, &chinese));
}

#[test]
fn both_readmes_name_every_metric() {
    let all = SPECS.iter().flat_map(|spec| spec.metrics).chain(OWN_METRICS).chain(&CERTIFICATES);
    let names: Vec<String> = all.map(|metric| format!("`{}`", metric.name)).collect();
    for file in ["README.md", "README.zh-CN.md"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let text = std::fs::read_to_string(path).expect("a README");
        let missing: Vec<&String> = names.iter().filter(|name| !text.contains(*name)).collect();
        assert!(missing.is_empty(), "{file} lacks {missing:?}");
    }
}
