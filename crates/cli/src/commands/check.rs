//! `check`: everything that is wrong with policies and configurations.

use crate::arguments::Check;
use crate::failure::{Failure, INVALID, OK};
use crate::terminal::{Paint, counted, visible};
use crate::{configurations, policies};
use gateway::PolicyFile;
use gateway::config::ConfigFile;
use policy::{Problem, Severity, Source};
use std::io::Write;
use std::path::Path;

pub fn check(arguments: &Check) -> Result<u8, Failure> {
    let tools = policies::tools(&arguments.tools)?;
    let mut checked: Vec<(PolicyFile, Vec<Problem>)> = Vec::new();
    let mut configurations = Vec::new();
    let mut unreadable = Vec::new();
    for path in &arguments.files {
        if std::fs::read(path).is_ok_and(|text| ConfigFile::is_meant(&text)) {
            configurations.push((path, configurations::open(path)?));
            continue;
        }
        let file = match PolicyFile::read(path) {
            Ok(file) => file,
            Err(error) => {
                unreadable.push(not_read(path, &error));
                continue;
            }
        };
        let mut problems = file.problems().to_vec();
        if let Some(tools) = &tools {
            // Loaded again, because only a fresh load knows where everything stands.
            let loaded = policy::load(file.source());
            problems.extend(policy::check_tools(file.source(), &loaded, tools));
            problems.sort_by_key(|problem| (problem.line, problem.column));
        }
        checked.push((file, problems));
    }
    let of_configurations = || configurations.iter().flat_map(|(_, file)| file.reports()).map(|report| &report.problem);
    let all = || checked.iter().flat_map(|(_, problems)| problems).chain(&unreadable).chain(of_configurations());
    let valid = all().all(|problem| problem.severity != Severity::Error);
    let mut out = std::io::stdout().lock();
    if arguments.json {
        let problems: Vec<String> = all().map(Problem::to_json).collect();
        writeln!(out, "{{\"valid\":{valid},\"problems\":[{}]}}", problems.join(","))?;
    } else {
        for (file, problems) in &checked {
            write_report(&mut out, file.source(), problems)?;
        }
        for (path, file) in &configurations {
            let paint = Paint::stdout();
            for report in file.reports() {
                writeln!(out, "{}", report.render(paint.is_on()))?;
            }
            write_verdict(&mut out, &path.display().to_string(), file.reports().iter().map(|report| &report.problem))?;
        }
        for problem in &unreadable {
            writeln!(out, "{}: not valid: {}", visible(&problem.file), problem.message)?;
        }
    }
    Ok(if valid { OK } else { INVALID })
}

/// A file that cannot be read, among the mistakes of those that can.
fn not_read(path: &Path, error: &std::io::Error) -> Problem {
    Problem::unreadable(path.display().to_string(), format!("cannot read the policy: {error}"))
}

fn write_report(out: &mut impl Write, source: &Source, problems: &[Problem]) -> Result<(), Failure> {
    let paint = Paint::stdout();
    for problem in problems {
        writeln!(out, "{}", problem.render(source, paint.is_on()))?;
    }
    write_verdict(out, &source.name, problems.iter())
}

fn write_verdict<'p>(
    out: &mut impl Write,
    name: &str,
    problems: impl Iterator<Item = &'p Problem> + Clone,
) -> Result<(), Failure> {
    let paint = Paint::stdout();
    let name = visible(name);
    let errors = policies::count(problems.clone(), Severity::Error);
    let warnings = policies::count(problems, Severity::Warning);
    let verdict = if errors > 0 { paint.bad("not valid") } else { paint.good("valid") };
    let counts = match (errors, warnings) {
        (0, 0) => String::new(),
        (0, _) => format!(", {}", counted(warnings, "warning", "warnings")),
        (_, 0) => format!(", {}", counted(errors, "error", "errors")),
        (_, _) => format!(", {}, {}", counted(errors, "error", "errors"), counted(warnings, "warning", "warnings")),
    };
    writeln!(out, "{name}: {verdict}{counts}")?;
    Ok(())
}
