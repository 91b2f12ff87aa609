//! Of `catalog`.

use clap::Args;
use clap::Subcommand;
use clap::ValueEnum;
use clap::builder::PossibleValuesParser;
use std::path::PathBuf;

/// Grade tools by what their definitions say, and recommend policies
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  callgate catalog classify --tools tools.json
  callgate catalog recommend --tools tools.json --profile strict > policy.yaml")]
pub enum Catalog {
    Classify(Classify),
    Recommend(Recommend),
}

/// Say what each tool of a captured list may do at worst
///
/// Reads `{"server": "…", "tools": […]}`, as a server answers tools/list. The class is the worst that an argument can reach,
/// with the words that say so; nothing is asked of a model or a network.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callgate catalog classify --tools tools.json
  callgate catalog classify --tools tools.json --json | jq -r 'select(.risk == \"Destructive\").tool'")]
pub struct Classify {
    /// The captured tools/list
    #[arg(long, value_name = "TOOLS.json")]
    pub tools: PathBuf,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Write a policy for the tools of a captured list, by their grades
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  callgate catalog recommend --tools tools.json > policy.yaml
  callgate catalog recommend --tools tools.json --tool create_charge --format json")]
pub struct Recommend {
    /// The captured tools/list
    #[arg(long, value_name = "TOOLS.json")]
    pub tools: PathBuf,
    /// Only this tool, with all others refused; may be repeated
    #[arg(long = "tool", value_name = "NAME")]
    pub only: Vec<String>,
    #[command(flatten)]
    pub profile: ProfileArgument,
    /// YAML with the reasons in comments, or policy.json
    #[arg(long, value_name = "FORM", default_value = "yaml")]
    pub format: PolicyForm,
}

/// How careful a written policy is.
#[derive(Debug, Args)]
pub struct ProfileArgument {
    /// How careful the policy is: strict, recommended or permissive
    #[arg(long, value_name = "PROFILE", default_value = "recommended", value_parser = PossibleValuesParser::new(["strict", "recommended", "permissive"]))]
    profile: String,
}

impl ProfileArgument {
    /// The profile that was asked for.
    pub fn profile(&self) -> catalogue::Profile {
        match self.profile.as_str() {
            "strict" => catalogue::Profile::Strict,
            "permissive" => catalogue::Profile::Permissive,
            _ => catalogue::Profile::Recommended,
        }
    }
}

/// In which form a policy is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PolicyForm {
    Yaml,
    Json,
}
