//! Templates of whatever can be read or typed: a field set to what it is changes nothing, set back it is as before.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vxlan::{Stack, FrameTemplate};

const KEYS: [&str; 18] = [
    "dst", "src", "vid", "smac", "tell", "tmac", "who", "id", "ttl", "flow", "hlim", "seq", "sport", "dport", "ack",
    "spi", "vni", "policy",
];

fuzz_target!(|input: (&[u8], u8, u8, u8)| {
    let (bytes, layer, key, value) = input;
    let Ok(stack) = Stack::parse(bytes) else { return };
    let mut template = FrameTemplate::new(&stack).expect("what was read builds");
    assert_eq!(template.frame(), bytes);
    let names: Vec<_> = stack.layers.iter().map(|layer| layer.kind().name()).collect();
    let Some(name) = names.get(usize::from(layer) % names.len().max(1)) else { return };
    let Ok(field) = template.field(&format!("{name}.{}", KEYS[usize::from(key) % KEYS.len()])) else { return };
    template.set(field, value).expect("every field holds a byte");
    let changed = template.frame().to_vec();
    assert_eq!(changed.len(), bytes.len());
    // A right frame stays one: nothing is wrong that was not, and the layers are the same.
    let again = Stack::parse(&changed).expect("fields that vary do not change how a frame is read");
    assert_eq!(again.layers.len(), stack.layers.len(), "{stack} {again}");
    assert_eq!(again.build().as_deref(), Ok(changed.as_slice()));
    for (now, was) in again.layers.iter().zip(&stack.layers) {
        // What was wrong may have become right by chance, but not the other way.
        assert!(!was.wrong().is_empty() || now.wrong().is_empty(), "{stack} became {again}");
    }
});
