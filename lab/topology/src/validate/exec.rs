//! `exec PLACE [with host-tools] -- COMMAND`, as an action and as a fact.

use super::{cells::Scope, containers};
use labctl_model::check::{Command, Tools};
use labctl_yaml::{At, Cx, Diagnostic, split_words};

/// The form, for hints.
pub(super) const FORM: &str = "exec HOST|CONTAINER [with host-tools] -- COMMAND";

/// Reads `PLACE [with host-tools] -- COMMAND` after `skip` words.
pub(super) fn read(text: &At<String>, skip: usize, scope: &Scope, cx: &mut Cx) -> Option<Command> {
    let mut words = split_words(&text.value).skip(skip).peekable();
    let place = words.next();
    let tools = match words.next_if(|(_, word)| *word == "with") {
        Some(_) => words.next_if(|(_, word)| *word == "host-tools").map(|_| Tools::Host),
        None => Some(Tools::Own),
    };
    let (dashes, first) = (words.next(), words.next());
    let (Some((at, place)), Some(tools), Some((_, "--")), Some((command, _))) = (place, tools, dashes, first)
    else {
        let d = Diagnostic::new(text.at, "this does not say what is run where");
        let form = if skip > 0 { FORM.to_owned() } else { FORM.replacen(' ', ": ", 1) };
        cx.error(d.hint(format!("`{form}`")));
        return None;
    };
    let place = At { value: place.to_owned(), at: cx.part(text, at) };
    let range = command.start..text.value.len();
    let command = At { value: text.value[range.clone()].to_owned(), at: cx.part(text, range) };
    if scope.names.peers.contains(place.value.as_str()) {
        let d = Diagnostic::new(place.at, format!("`{}` is a peer, in which nothing runs", place.value));
        cx.error(d.hint("a command runs in a host or container"));
        return None;
    }
    let known = scope.endpoint(&place, cx);
    let argv = containers::split(&command, cx);
    (known && !argv.is_empty()).then_some(Command { place: place.value, tools, argv })
}
