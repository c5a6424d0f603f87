//! Actions of a lesson, and how a learner would type them.

use labctl_model::{Action, Tools};

/// An action with the words in which the lesson gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct Act {
    /// The words.
    pub words: String,
    /// The action.
    pub action: Action,
}

impl Act {
    /// The command line that does the same in this lab.
    pub fn command(&self, lab: &str) -> String {
        let (Action::Exec(command), Some((_, argv))) = (&self.action, self.words.split_once(" -- ")) else {
            return format!("labctl do {lab} {}", quoted(&self.words));
        };
        let place = &command.place;
        match (argv.trim().strip_prefix("docker "), command.tools) {
            (Some(arguments), Tools::Own) => format!("labctl docker {lab} {place} -- {arguments}"),
            (None, Tools::Own) => format!("labctl exec {lab} {place} -- {}", argv.trim()),
            (_, Tools::Host) => format!("labctl exec --host-tools {lab} {place} -- {}", argv.trim()),
        }
    }
}

/// As one word of a shell, if the shell would read it otherwise.
fn quoted(words: &str) -> String {
    match words.contains(['{', '"', '$', '&', '|', ';', '(', '*']) {
        true => format!("'{}'", words.replace('\'', r"'\''")),
        false => words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_action_is_shown_as_a_command_that_does_it() {
        let text = "name: t\nhosts: { h: {} }\nnetworks: { n: { hosts: [h] } }\ncontainers: { cc: {} }\n";
        let lab = labctl_topology::parse(text, "t.yaml").unwrap();
        let command = |words: &str| {
            Act { words: words.into(), action: labctl_topology::parse_action(words, &lab).unwrap() }
                .command("x")
        };
        assert_eq!(command("connect cc n"), "labctl do x connect cc n");
        assert_eq!(command("exec h -- docker ps -a"), "labctl docker x h -- ps -a");
        assert_eq!(command("exec h -- sh -c 'ip a | cat'"), "labctl exec x h -- sh -c 'ip a | cat'");
        assert_eq!(command("exec cc with host-tools -- ip a"), "labctl exec --host-tools x cc -- ip a");
        assert_eq!(
            command("configure docker h {\"mtu\": 1400}"),
            "labctl do x 'configure docker h {\"mtu\": 1400}'"
        );
    }
}
