//! Finds out before anything is made whether a lab can run in containers here.

use std::path::Path;

use labctl_model::Lab;
use labctl_yaml::{Places, Remark};

use super::{
    daemon::Daemon,
    needs::{self, Need, What},
};
use crate::{
    Error,
    kernel::{self, Findings},
};

/// Why a lab cannot run in containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// No usable daemon.
    Daemon(String),
    /// The kernel could not be examined.
    Unknown(String),
    /// What the topology needs but this kernel lacks, each with the kernel's answer.
    Lacks(Vec<(Need, String)>),
}

/// Checks that Docker and this machine's kernel can run `lab`; returns the daemon's version.
///
/// # Errors
/// What prevents it.
pub async fn fit(lab: &Lab, agent: &Path) -> Result<String, Unfit> {
    // Missing kernel features stay missing, so they are reported even if there is no Docker.
    let lacking = match kernel::examine(agent).await {
        Ok(findings) => lacking(needs::of(lab), &findings),
        Err(why) => return Err(Unfit::Unknown(why)),
    };
    if !lacking.is_empty() {
        return Err(Unfit::Lacks(lacking));
    }
    Ok(Daemon::find().await.map_err(Unfit::Daemon)?.version)
}

fn lacking(needs: Vec<Need>, findings: &Findings) -> Vec<(Need, String)> {
    let answer = |need: &Need| match &need.what {
        What::Feature(feature) => findings.get(feature).cloned().unwrap_or(Some("not tried".into())),
        What::OwnKernel(_) => Some("it concerns the whole kernel".into()),
    };
    needs.into_iter().filter_map(|need| answer(&need).map(|why| (need, why))).collect()
}

impl Unfit {
    /// In a line: `this kernel lacks ipvlan, which network blue needs`.
    pub fn summary(&self) -> String {
        match self {
            Unfit::Daemon(why) => why.clone(),
            Unfit::Unknown(why) => format!("this kernel cannot be looked at: {why}"),
            Unfit::Lacks(lacking) => match lacking.first() {
                Some((Need { what: What::OwnKernel(what), by, .. }, _)) => {
                    format!("{what} of {by} concerns the whole kernel")
                }
                Some((Need { what: What::Feature(feature), by, .. }, _)) => {
                    format!("this kernel lacks {feature}, which {by} needs")
                }
                None => String::new(),
            },
        }
    }

    /// As an error, with the lines of the topology.
    pub fn error(&self, topology: &Places) -> Error {
        const WAY_OUT: &str = "`--runtime vm` needs none of this machine";
        let Unfit::Lacks(lacking) = self else {
            return Error::Unfit(format!(
                "the dind runtime cannot run here: {}\nhint: {WAY_OUT}",
                self.summary()
            ));
        };
        let remarks: Vec<Remark> = lacking.iter().map(|(need, why)| remark(need, why)).collect();
        match topology.locate(&remarks) {
            Some(diagnostics) => Error::Lacks(Box::new(diagnostics)),
            None => {
                let lines: Vec<&str> = remarks.iter().map(|r| r.message.as_str()).collect();
                Error::Unfit(format!("{}\nhint: {WAY_OUT}", lines.join("\n")))
            }
        }
    }
}

fn remark(need: &Need, why: &str) -> Remark {
    let Need { what, by, path } = need;
    let (message, label, hint) = match what {
        What::Feature(feature) => (
            format!("{by} needs {feature}, which this machine's kernel has not ({why})"),
            format!("needs {feature}"),
            "`--runtime vm` gives each host a kernel that has it",
        ),
        What::OwnKernel(what) => (
            format!("{by}: {what} would change this machine's own kernel"),
            "not in a container".to_owned(),
            "`--runtime vm` gives each host a kernel of its own",
        ),
    };
    Remark { path: path.clone(), message, label, hint: Some(hint.to_owned()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use labctl_topology::Topology;

    use super::*;
    use crate::kernel::Feature;

    #[test]
    fn a_refusal_names_part_feature_line_and_runtime() {
        let text = "name: x\nsegments: { lan: { subnet: 192.168.56.0/24 } }\nhosts: { h1: { lan: 192.168.56.3 } }\n\
                    networks:\n  blue:\n    driver: ipvlan\n    driver_opts: { parent: lan }\n\
                    containers: { c1: { networks: [blue] } }\n";
        let Topology { lab, places, .. } = Topology::parse(text, "lab.yaml", &Default::default()).unwrap();
        let mut findings: Findings = Feature::ALL.into_iter().map(|f| (f, None)).collect();
        assert_eq!(lacking(needs::of(&lab), &findings), []);
        findings.insert(Feature::Ipvlan, Some("Operation not supported".into()));
        let unfit = Unfit::Lacks(lacking(needs::of(&lab), &findings));
        assert_eq!(unfit.summary(), "this kernel lacks ipvlan, which network blue needs");
        let error = unfit.error(&places);
        assert_eq!(error.exit_code(), 3);
        let text = error.to_string();
        for part in ["lab.yaml:6", "network blue needs ipvlan", "Operation not supported", "--runtime vm"] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
    }
}
