//! A topology as a drawing: what is drawn, made from the model, and a writer for each form.

mod dot;
mod drawing;
mod drawio;
mod layout;
mod mermaid;
mod svg;
#[cfg(test)]
mod tests;

pub use drawing::Drawing;
use labctl_model::Lab;
use labctl_words::plain;
pub use mermaid::walks;

/// Form of a drawing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// For Markdown: GitHub and GitLab draw it
    #[default]
    Mermaid,
    /// For Graphviz
    Dot,
    /// A picture that needs no other program, light or dark as its viewer is
    Svg,
    /// For draw.io, to go on drawing
    Drawio,
}

/// Draws a lab as it is when it has come up. What only steps make is in it too, dashed.
pub fn draw(lab: &Lab, form: Form) -> String {
    write(&Drawing::of(lab), form)
}

/// Writes a drawing in a form.
pub fn write(drawing: &Drawing, form: Form) -> String {
    match form {
        Form::Mermaid => mermaid::write(drawing),
        Form::Dot => dot::write(drawing),
        Form::Svg => svg::write(drawing),
        Form::Drawio => drawio::write(drawing),
    }
}

/// Text as one line of XML content or of an attribute's value, without what steers a terminal and without the two
/// characters that XML forbids besides (XML 1.0, 2.2).
fn xml(text: &str) -> String {
    let mut out = String::new();
    for c in plain(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
