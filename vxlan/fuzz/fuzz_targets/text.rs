//! The text form: no text panics, what is read prints as text that reads as the same, errors point into the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vxlan::{MacAddr, Stack};

fuzz_target!(|text: &str| {
    _ = text.parse::<MacAddr>();
    match text.parse::<Stack>() {
        Ok(stack) => {
            let shown = stack.to_string();
            assert_eq!(shown.parse().as_ref(), Ok(&stack), "{shown}");
            _ = stack.build();
        }
        Err(error) => assert!((1..=text.chars().count() + 1).contains(&error.column), "{error}"),
    }
});
