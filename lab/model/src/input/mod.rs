//! From text to spanned structs: everything that can be said about a topology without knowing what it means.

pub(crate) mod cx;
pub(crate) mod decode;
pub(crate) mod scalar;
pub(crate) mod text;
pub(crate) mod words;
pub(crate) mod yaml;
