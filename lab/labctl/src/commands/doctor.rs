//! `labctl doctor`

use crate::doctor::{self, Diagnosis, Finding, Level};
use labctl_report::table::Table;
use labctl_state::Runtime;

use crate::{
    context::{Context, agent},
    exit::{Error, Exit},
    printer::{Format, style},
    progress::Progress,
};

const EXAMPLES: &str = "\
Examples:
  labctl doctor
  labctl doctor --format json | jq '.findings[] | select(.level != \"ok\")'
  labctl doctor --format json | jq '.features.ip_vs'";

/// Say what this machine can do, what is missing, and the way out
///
/// Looks at everything that labs need and changes nothing. Ends with status 0 where labs can run, 3 where not.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {}

/// Runs the verb.
pub async fn run(_: Args, context: &Context) -> Result<Exit, Error> {
    let mut progress = Progress::new(&context.printer, "doctor");
    progress.phase("looking");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let diagnosis = doctor::examine(&context.dirs, &path, agent().ok().as_deref()).await;
    drop(progress);
    match context.printer.format {
        Format::Json => context.printer.json(&diagnosis)?,
        Format::Text => context.printer.data(&text(&diagnosis))?,
    }
    Ok(if diagnosis.vm { Exit::OK } else { Exit::ENVIRONMENT })
}

fn text(diagnosis: &Diagnosis) -> String {
    let mut table = Table::default();
    for Finding { name, level, found, .. } in &diagnosis.findings {
        let (word, s) = match level {
            Level::Ok => ("ok", style::GOOD),
            Level::Limits => ("limits", style::CAUTION),
            Level::Missing => ("missing", style::BAD),
            Level::Fact => ("fact", style::DIM),
        };
        let plain = anstyle::Style::new();
        table.row([(word.to_owned(), s), (name.clone(), plain), (found.clone(), plain)]);
    }
    let mut out = table.render();
    let advice: Vec<_> =
        diagnosis.findings.iter().filter_map(|f| f.advice.as_ref().map(|a| (&f.name, a))).collect();
    if !advice.is_empty() {
        out.push('\n');
        let h = style::HINT;
        for (name, advice) in advice {
            out.push_str(&format!("{h}hint:{h:#} {name}: {advice}\n"));
        }
    }
    let (s, verdict) = if diagnosis.vm {
        (style::GOOD, can_run(diagnosis.auto))
    } else {
        (style::BAD, "labs cannot run here yet: see what is missing")
    };
    format!("{out}\n{s}{verdict}{s:#}\n")
}

/// Text that labs can run, and on which runtime by default.
fn can_run(auto: Runtime) -> &'static str {
    match auto {
        Runtime::Dind => {
            "labs can run here: `--runtime auto` takes dind where this kernel has what the lab needs, else vm (emulated)"
        }
        // Nobody gets a machine that exists without asking.
        Runtime::Vm | Runtime::Ssh | Runtime::Vagrant => "labs can run here: `--runtime auto` takes vm",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_with_the_way_out() {
        let finding = |name: &str, level, advice: Option<&str>| Finding {
            name: name.into(),
            level,
            found: "x".into(),
            advice: advice.map(Into::into),
        };
        let diagnosis = Diagnosis {
            vm: false,
            dind: false,
            auto: Runtime::Vm,
            features: Default::default(),
            findings: vec![
                finding("qemu", Level::Missing, Some("apt install qemu-system-x86")),
                finding("cores", Level::Ok, None),
            ],
        };
        insta::assert_snapshot!(anstream::adapter::strip_str(&text(&diagnosis)).to_string(), @"
        missing  qemu   x
        ok       cores  x

        hint: qemu: apt install qemu-system-x86

        labs cannot run here yet: see what is missing
        ");
        let able = |auto| text(&Diagnosis { vm: true, auto, ..diagnosis.clone() });
        assert!(able(Runtime::Dind).contains("takes dind") && able(Runtime::Vm).contains("takes vm"));
    }
}
