//! Makes foreign text (from a topology, Docker, a guest) safe for a terminal or a log.
//!
//! [`plain`] turns text into one line, for use within a line. [`plain_lines`] keeps its lines, and [`styled_lines`] keeps
//! our own emphasis too. JSON needs none of them: its strings are escaped.

/// Whether a terminal obeys this character, hides it, or reorders the text around it.
///
/// Controls (C0, DEL, C1), line and paragraph separators, bidirectional controls, zero-width characters and tags: Unicode's
/// categories Cc, Zl, Zp and most of Cf. See "Trojan Source", CVE-2021-42574.
pub fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// The text as one line: hostile characters become `�`, line ends and tabs become blanks.
pub fn plain(text: &str) -> String {
    text.chars().map(harmless).collect::<String>().trim().to_owned()
}

/// The text with its lines, without hostile characters.
pub fn plain_lines(text: &str) -> String {
    text.chars().map(harmless_but_lines).collect()
}

/// The text with its lines and emphasis (SGR sequences: `ESC [ 1 ; 31 m`), which at worst change colours; without other
/// hostile characters.
pub fn styled_lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (keep, skip) = match emphasis(rest) {
            Some(length) => rest.split_at(length),
            None => {
                out.push(harmless_but_lines(c));
                ("", &rest[c.len_utf8()..])
            }
        };
        out.push_str(keep);
        rest = skip;
    }
    out
}

fn harmless(c: char) -> char {
    match c {
        '\n' | '\r' | '\t' => ' ',
        c if is_hostile(c) => '\u{fffd}',
        c => c,
    }
}

fn harmless_but_lines(c: char) -> char {
    if c == '\n' { c } else { harmless(c) }
}

/// Length in bytes of the SGR sequence (ECMA-48, 8.3.117) that the text begins with.
fn emphasis(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\x1b[")?;
    let length = parameters.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    parameters[length..].starts_with('m').then_some("\x1b[".len() + length + "m".len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clears the screen, sets the title, CSI in one byte, reverses, hides, joins.
    const HOSTILE: &str =
        "a\x1b[2J\x1b]0;t\x07\r\n\u{9b}31m\u{202e}b\u{200b}\u{2066}\u{7f}c\u{e0041}\u{2028}d";

    #[test]
    fn one_line_steers_nothing() {
        let line = plain(HOSTILE);
        assert!(!line.contains(is_hostile), "{line:?}");
        assert_eq!(line, "a�[2J�]0;t�  �31m�b���c��d");
        assert_eq!(plain("é … 日本 \u{1f600} ≠\n"), "é … 日本 \u{1f600} ≠", "letters of all kinds stay");
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(plain_lines("  a\x1b[1m\n\thint: b\n"), "  a�[1m\n hint: b\n");
    }

    #[test]
    fn of_escapes_only_emphasis_passes() {
        let ours = "\x1b[1m\x1b[31mwrong\x1b[0m\n";
        assert_eq!(styled_lines(ours), ours);
        assert_eq!(styled_lines("\x1b[2J\x1b[31\x1b[3\u{202e}m\x1b"), "�[2J�[31�[3�m�");
    }
}
