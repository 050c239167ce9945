//! `oxmon-server check-remote`.

use std::process::Command;

use super::real::Engine;
use super::{Act, Fake};
use crate::support::server::program;

/// Whether it is content, and what it says.
fn check(remote: &str) -> (bool, String) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("server.toml");
    std::fs::write(&file, format!("data_dir = \"{}\"\n{remote}", dir.path().display())).unwrap();
    let out = Command::new(program()).arg("check-remote").arg(&file).output().expect("it runs");
    let said = [out.stdout, out.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    (out.status.success(), said.concat())
}

fn remote(engine: &Engine) -> String {
    format!(
        "[remote]\nwrite_urls = [\"{}\"]\nread_urls = [\"{}\"]\n",
        engine.write_url(),
        engine.url
    )
}

#[test]
fn an_engine_that_is_set_up_well_passes() {
    let engines =
        [Engine::victoria(&["-dedup.minScrapeInterval=1ms"]), Engine::prometheus(Some("2d"))];
    for engine in engines.into_iter().flatten() {
        let (good, said) = check(&remote(&engine));
        assert!(good, "{said}");
        assert!(said.contains("is read as it was written, once"), "{said}");
        assert!(said.contains("keeps every label"), "{said}");
    }
}

#[test]
fn what_is_not_set_up_is_named() {
    let (good, said) = check("");
    assert!(!good && said.contains("names no engine"), "{said}");
    let (good, said) = check("[remote]\nwrite_urls = [\"http://127.0.0.1:9/write\"]\n");
    assert!(!good && said.contains("it does not take samples: "), "{said}");
    assert!(said.contains("remote.read_urls is empty"), "{said}");
    let fake = Fake::start();
    fake.always(Act::Answer(401, "who are you?"));
    let (good, said) = check(&format!("[remote]\nwrite_urls = [\"{}\"]\n", fake.write_url()));
    assert!(!good && said.contains("HTTP 401: who are you?"), "{said}");
    if let Some(engine) = Engine::victoria(&["-maxLabelsPerTimeseries=10"]) {
        let (good, said) = check(&remote(&engine));
        assert!(!good && said.contains("-dedup.minScrapeInterval=1ms"), "{said}");
        assert!(said.contains("does not come back whole"), "{said}");
    }
    if let Some(engine) = Engine::prometheus(None) {
        let (good, said) = check(&remote(&engine));
        assert!(!good && said.contains("out_of_order_time_window"), "{said}");
    }
}

#[test]
fn addresses_that_are_denied_are_not_connected_to() {
    let fake = Fake::start();
    let config = format!(
        "[outgoing]\ndeny = [\"127.0.0.0/8\"]\n[remote]\nwrite_urls = [\"{}\"]\n",
        fake.write_url()
    );
    let (good, said) = check(&config);
    assert!(!good && said.contains("is not allowed"), "{said}");
    assert!(fake.heads().is_empty());
}

#[test]
fn credentials_come_from_files_and_go_with_every_request() {
    let fake = Fake::start();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "s3cret\n").unwrap();
    let secret = secret.display();
    for (more, wanted) in [
        (format!("username = \"u\"\npassword_file = \"{secret}\""), "Basic dTpzM2NyZXQ="),
        (format!("bearer_token_file = \"{secret}\""), "Bearer s3cret"),
    ] {
        let before = fake.heads().len();
        let (_, said) =
            check(&format!("[remote]\nwrite_urls = [\"{}\"]\n{more}\n", fake.write_url()));
        assert!(!said.contains("s3cret"), "{said}");
        let heads = fake.heads().split_off(before);
        assert!(heads.len() > 3, "{said}");
        let line = format!("authorization: {wanted}");
        assert!(heads.iter().all(|head| head.contains(&line)), "{}", heads[0]);
    }
}
