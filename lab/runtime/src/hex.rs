//! Octets as text.

/// Lower-case hex digits, two for each octet.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
