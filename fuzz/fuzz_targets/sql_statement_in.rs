#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::sql_statement_in(data));
