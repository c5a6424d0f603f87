//! The ELF kernel inside Debian's bzImage.
//!
//! Without KVM the kernel takes more than a second to decompress itself; QEMU boots the bare ELF through its PVH entry.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::Error;

/// Offsets in the header of a bzImage (kernel documentation: x86 boot protocol 2.08).
const SETUP_SECTORS: usize = 0x1f1;
const MAGIC: usize = 0x202;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

/// Magic bytes of the payload, the program that decompresses it, and whether the build appended the size.
const COMPRESSIONS: &[(&[u8], &str, bool)] =
    &[(b"\x28\xb5\x2f\xfd", "zstd", true), (b"\xfd7zXZ\0", "xz", true), (b"\x1f\x8b", "gzip", false)];

/// Writes the ELF kernel of the bzImage at `from` to `to`.
pub async fn extract(from: &Path, to: &Path) -> Result<(), Error> {
    let image = fs::read(from).map_err(Error::io("read", from))?;
    let (payload, program) =
        payload(&image).ok_or_else(|| Error::content(from, "is no bzImage that labctl knows"))?;
    let elf = decompress(program, payload).await?;
    if !elf.starts_with(b"\x7fELF") {
        return Err(Error::content(
            from,
            format!("holds no ELF kernel ({program} gave {} octets)", elf.len()),
        ));
    }
    fs::write(to, elf).map_err(Error::io("write", to))
}

fn payload(image: &[u8]) -> Option<(&[u8], &'static str)> {
    if image.get(MAGIC..MAGIC + 4)? != b"HdrS" {
        return None;
    }
    let word = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?) as usize);
    let start = (usize::from(*image.get(SETUP_SECTORS)?) + 1) * 512 + word(PAYLOAD_OFFSET)?;
    let payload = image.get(start..start.checked_add(word(PAYLOAD_LENGTH)?)?)?;
    let (_, program, sized) = COMPRESSIONS.iter().find(|(magic, ..)| payload.starts_with(magic))?;
    let end = if *sized { payload.len().checked_sub(4)? } else { payload.len() };
    Some((&payload[..end], program))
}

/// Returns the output of `PROGRAM -dc` for `data`.
pub async fn decompress(program: &'static str, data: &[u8]) -> Result<Vec<u8>, Error> {
    let package = if program == "xz" { "xz-utils" } else { program };
    let missing = |source| Error::Missing { program, package, source };
    let mut child = Command::new(program)
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(missing)?;
    let mut input = child.stdin.take();
    let feed = async {
        if let Some(mut input) = input.take() {
            // A program that stops reading reports the cause by its status and output.
            let _ = input.write_all(data).await;
        }
    };
    let ((), output) = tokio::join!(feed, child.wait_with_output());
    Ok(output.map_err(missing)?.stdout)
}
