//! JSONTestSuite: what every reader must take (`y_`), what none may (`n_`), and where they differ (`i_`).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use json::{Document, Problem, Strictness};

/// The cases whose file begins with `prefix`, as (file, bytes).
fn cases(prefix: &str) -> Vec<(String, Vec<u8>)> {
    let text = include_bytes!("../../../tests/corpora/jsontestsuite.json");
    let suite = Document::parse(&text[..], Strictness::Request).unwrap();
    let cases = suite.root().get("cases").unwrap().elements().unwrap().map(|case| {
        let string = |key| case.get(key).unwrap().as_str().unwrap();
        (string("file").into_owned(), STANDARD.decode(&*string("bytes_b64")).unwrap())
    });
    let cases: Vec<_> = cases.filter(|(file, _)| file.starts_with(prefix)).collect();
    assert!(!cases.is_empty());
    cases
}

#[test]
fn what_is_no_json_is_refused() {
    for (file, bytes) in cases("n_") {
        for strictness in [Strictness::Request, Strictness::Reply] {
            assert!(Document::parse(bytes.clone(), strictness).is_err(), "{file}");
        }
    }
}

#[test]
fn json_is_read_unless_a_key_stands_twice() {
    for (file, bytes) in cases("y_") {
        let expected = if file.starts_with("y_object_duplicated_key") { Err(Problem::DuplicateKey) } else { Ok(()) };
        let read = Document::parse(bytes.clone(), Strictness::Request).map(drop).map_err(|error| error.problem);
        assert_eq!(read, expected, "{file}");
        assert!(Document::parse(bytes, Strictness::Reply).is_ok(), "{file}");
    }
}

/// Requests: texts that readers differ about pass only where we keep them exactly.
#[test]
fn what_readers_differ_about_is_refused_or_kept_exactly() {
    let read: Vec<_> =
        cases("i_").into_iter().filter(|(_, bytes)| Document::parse(bytes.clone(), Strictness::Request).is_ok()).collect();
    for (file, bytes) in &read {
        let document = Document::parse(bytes.clone(), Strictness::Request).unwrap();
        assert_eq!(document.text(), bytes, "{file}");
    }
    // Integers of any size are exact here, and so are numbers that a double rounds to zero; up to 128 levels are read.
    let files: Vec<_> = read.iter().map(|(file, _)| file.as_str()).collect();
    assert!(files.iter().all(|file| file.starts_with("i_number")), "{files:?}");
}
