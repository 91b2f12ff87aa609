//! The index of documented attacks, for docs/attacks.md.

use catalogue::attacks::{self, Attack, Control, Reach};
use std::fmt::Write as _;

/// The page with its index as the data has it.
///
/// # Errors
/// When the page has no place for it.
pub fn page(page: &str) -> Result<String, String> {
    let (before, rest) = page.split_once(BEGIN).ok_or("docs/attacks.md has no place for the index")?;
    let (_, after) = rest.split_once(END).ok_or("docs/attacks.md has no end of the index")?;
    Ok(format!("{before}{BEGIN}{}{END}{after}", index()))
}

fn index() -> String {
    let all = attacks::all();
    let count = |reach: Reach| all.iter().filter(|attack| attack.reach == reach).count();
    let cases: usize = all.iter().map(|attack| attack.cases.len()).sum();
    let mut out = format!(
        "{} attacks: {} stopped, {} limited, {} out of reach. {cases} cases.\n",
        all.len(),
        count(Reach::Stops),
        count(Reach::Limits),
        count(Reach::Cannot)
    );
    out.push_str("\n| control | attacks |\n|---|--:|\n");
    for control in Control::ALL {
        let ours = all.iter().filter(|attack| attack.is_stopped_by(control)).count();
        let elsewhere = all.iter().filter(|attack| attack.elsewhere.iter().any(|used| used.control == control)).count();
        match (ours, elsewhere) {
            (0, 0) => {}
            (0, count) => drop(writeln!(out, "| {control} (elsewhere) | {count} |")),
            (count, _) => drop(writeln!(out, "| `{control}` | {count} |")),
        }
    }
    for class in attacks::classes() {
        let main = |attack: &&Attack| attack.classes.first() == Some(&class.name);
        let listed: Vec<&Attack> = all.iter().filter(main).collect();
        if listed.is_empty() {
            continue;
        }
        let _ = writeln!(out, "\n### {} (`{}`)\n\n{}\n", class.title, class.name, class.works);
        out.push_str("| attack | known | callgate | by | CVE |\n|---|---|---|---|---|\n");
        for attack in listed {
            let reach = if attack.reach == Reach::Cannot { "out of reach" } else { attack.reach.name() };
            let controls: Vec<String> = attack.controls.iter().map(|used| used.control.to_string()).collect();
            let _ = writeln!(
                out,
                "| `{}`: {} | {} | {reach} | {} | {} |",
                attack.id,
                attack.title.replace('|', "\\|"),
                attack.date,
                controls.join(", "),
                attack.cves.join(", ")
            );
        }
    }
    out
}

const BEGIN: &str = "<!-- written by `cargo xtask generate` -->\n";
const END: &str = "<!-- until here -->";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_stands_in_its_place_and_nothing_else_changes() {
        let empty = format!("# Page\n\n{BEGIN}{END}\nafter\n");
        let full = page(&empty).expect("a place");
        assert!(full.starts_with("# Page\n\n") && full.ends_with("-->\nafter\n"));
        assert!(full.contains("`fetch-mcp-ssrf`"));
        assert_eq!(page(&full), Ok(full.clone()));
        assert!(page("# Page").is_err());
    }
}
