//! The project's own commands, as `cargo xtask COMMAND`.
//!
//! `test` is everything that must hold before a change is taken, and what continuous integration runs. It is a list of
//! steps (`suite`), each of which can be run alone by its name. `layers` and `generate` are two of those steps that are
//! useful by themselves while writing.
//!
//! A finding is a `String` for a person: what, where, and how to mend it.

mod attacks;
mod bench;
mod catalog;
mod conformance;
mod container;
mod generate;
mod grade;
mod imports;
mod inspect;
mod layers;
mod methods;
mod source;
mod suite;
mod tools;
mod workspace;

use std::process::ExitCode;

use workspace::Workspace;

const HELP: &str = "\
cargo xtask COMMAND

  test [STEP…]         everything that must hold, or only the named steps; `test --list` names them
  conformance [--requirements REVISION] [--only WAY] [--write]
                       the conformance suite, directly and through callgate: nothing may change on the way
  layers               which crate may know which, and no import cycles inside a crate
  methods FILE         the official schemas in FILE (dist/index.js of @modelcontextprotocol/conformance) against our list
  grade [--write|--wrong|--signals|--all|--peer] [--captures FILE]
                       how well tools are graded, against labels that people gave; --write puts it into docs/grading.md,
                       --captures brings the definitions of tests/corpora/risk-servers.yaml (see docs/grading.md)
  inspect [--write|--missed|--false]
                       how well poisoned definitions are found, and honest ones left alone; --write puts it into
                       docs/inspect.md, the others print what went wrong in the half that the rules were tuned on
  catalog-scale [--quick|--write]
                       a catalog of made-up servers, as many as there are: how long it takes, how large it is; --write puts
                       it into docs/catalog.md
  bench [WORD…]        what callgate costs, in tables; `bench --help` tells what and how
  bench stores [--quick]
                       what a call costs on each kind of state; PostgreSQL and Redis are started for it
  container [--no-build] [FLAG…]
                       the image of deploy/Containerfile, built and run by Podman; flags go to `podman run`
  generate [--check]   write what is generated from the code; with --check, say what is out of date
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["test", "--list"] => {
            suite::list();
            Ok(())
        }
        ["test", steps @ ..] => Workspace::find().and_then(|workspace| suite::run(&workspace, steps)),
        ["conformance", rest @ ..] => match conformance_options(rest) {
            Some(options) => {
                Workspace::find().and_then(|workspace| conformance::run(&workspace, &options)).map(|said| println!("{said}"))
            }
            None => {
                eprintln!("error: conformance does not take `{}`\n\n{HELP}", rest.join(" "));
                return ExitCode::from(2);
            }
        },
        ["bench", "stores", words @ ..] => Workspace::find().and_then(|workspace| bench::stores(&workspace, words)),
        ["bench", words @ ..] => Workspace::find().and_then(|workspace| bench::run(&workspace, words)),
        ["grade", rest @ ..] => match grade_options(rest) {
            Some((wanted, captures)) => {
                Workspace::find().and_then(|workspace| grade::run(&workspace, wanted, captures)).map(|said| println!("{said}"))
            }
            None => {
                eprintln!("error: grade does not take `{}`\n\n{HELP}", rest.join(" "));
                return ExitCode::from(2);
            }
        },
        ["inspect", rest @ ..] if rest.len() < 2 => match inspect_wanted(rest.first().copied()) {
            Some(wanted) => {
                Workspace::find().and_then(|workspace| inspect::run(&workspace, wanted)).map(|said| println!("{said}"))
            }
            None => {
                eprintln!("error: inspect does not take `{}`\n\n{HELP}", rest.join(" "));
                return ExitCode::from(2);
            }
        },
        ["catalog-scale", words @ ..] => {
            Workspace::find().and_then(|workspace| catalog::scale(&workspace, words)).map(|said| println!("{said}"))
        }
        ["container", words @ ..] => {
            Workspace::find().and_then(|workspace| container::check(&workspace, words)).map(|said| println!("{said}"))
        }
        ["layers"] => Workspace::find().and_then(|workspace| layers::check(&workspace)).map(|said| println!("{said}")),
        ["methods", bundle] => {
            Workspace::find().and_then(|workspace| methods::check(&workspace, bundle)).map(|said| println!("{said}"))
        }
        ["generate"] => Workspace::find().and_then(|workspace| generate::write(&workspace)).map(|said| println!("{said}")),
        ["generate", "--check"] => {
            Workspace::find().and_then(|workspace| generate::check(&workspace)).map(|said| println!("{said}"))
        }
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        _ => {
            eprintln!("error: no command `{}`\n\n{HELP}", words.join(" "));
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn grade_options<'w>(words: &'w [&'w str]) -> Option<(grade::Wanted, Option<&'w std::path::Path>)> {
    let (mut wanted, mut captures) = (grade::Wanted::Tables, None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        wanted = match *word {
            "--write" => grade::Wanted::Write,
            "--wrong" => grade::Wanted::Wrong,
            "--signals" => grade::Wanted::Signals,
            "--all" => grade::Wanted::All,
            "--peer" => grade::Wanted::Peer,
            "--captures" => {
                captures = Some(std::path::Path::new(words.next()?));
                continue;
            }
            _ => return None,
        };
    }
    Some((wanted, captures))
}

fn inspect_wanted(word: Option<&str>) -> Option<inspect::Wanted> {
    match word {
        None => Some(inspect::Wanted::Tables),
        Some("--write") => Some(inspect::Wanted::Write),
        Some("--missed") => Some(inspect::Wanted::Missed),
        Some("--false") => Some(inspect::Wanted::False),
        Some(_) => None,
    }
}

fn conformance_options<'w>(words: &[&'w str]) -> Option<conformance::Options<'w>> {
    let mut options = conformance::Options::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--requirements" => options.requirements = Some(words.next()?),
            "--only" => options.only = Some(words.next()?),
            "--write" => options.write = true,
            _ => return None,
        }
    }
    // The table is of everything.
    let partial = options.requirements.is_some() || options.only.is_some();
    (!(options.write && partial)).then_some(options)
}
