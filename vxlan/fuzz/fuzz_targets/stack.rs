//! Every layer's reader: what is read builds to the same bytes, prints as text that reads as the same, and has a line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vxlan::{Decode, Dissection, Kind};

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    let decode = Decode { first: Kind::ALL[usize::from(*which) % Kind::ALL.len()], ..Decode::default() };
    let Dissection { stack, offsets, error } = Dissection::of(bytes, &decode);
    assert_eq!(offsets.len(), stack.layers.len());
    match error {
        Some(error) => assert!(error.offset <= bytes.len(), "{error}"),
        None => assert_eq!(stack.build().as_deref(), Ok(bytes), "{stack}"),
    }
    let line = vxlan::describe_as(bytes, &decode);
    assert!(!line.is_empty() && !line.contains('\n'));
    if !stack.layers.is_empty() {
        let text = stack.to_string();
        assert_eq!(text.parse(), Ok(stack), "{text}");
    }
});
