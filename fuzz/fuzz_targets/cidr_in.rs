#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::cidr_in(data));
