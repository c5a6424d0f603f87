//! Emphasis; text that has it also carries the meaning in words or signs.

use anstyle::{AnsiColor, Style};

/// As it should be.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Not as it should be.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// Worth a look.
pub const CAUTION: Style = AnsiColor::Yellow.on_default().bold();
/// Headings.
pub const HEAD: Style = Style::new().bold();
/// Less important.
pub const DIM: Style = Style::new().dimmed();
/// What to do about it.
pub const HINT: Style = AnsiColor::Cyan.on_default().bold();
