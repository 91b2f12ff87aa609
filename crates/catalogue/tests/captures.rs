//! What real servers say of themselves, held against what we refuse. Skips, saying so, where no captures are at hand.

use catalogue::{Names, first_hidden, unreadable_name};

#[test]
fn no_honest_server_has_names_that_look_alike() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora/tools");
    let Ok(entries) = std::fs::read_dir(&directory) else {
        eprintln!("skipped: {} is not there", directory.display());
        return;
    };
    for path in entries.map(|entry| entry.unwrap().path()) {
        let text = std::fs::read(&path).unwrap();
        let list: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let mut names = Names::default();
        for tool in list["tools"].as_array().unwrap() {
            let name = tool["name"].as_str().unwrap();
            assert_eq!(unreadable_name(name), None, "{}", path.display());
            assert_eq!(names.admit(name), None, "{name} of {}", path.display());
            assert_eq!(first_hidden(&tool.to_string().replace("\\n", " ")), None, "{name} of {}", path.display());
        }
    }
}
