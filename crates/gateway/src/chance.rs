//! What nobody can guess.

/// A number from 0 to 1, for pauses that should not be alike.
pub(crate) fn fraction() -> f64 {
    let mut byte = [0u8; 1];
    // Without chance, pauses are alike: no harm is done.
    let _ = getrandom::fill(&mut byte);
    f64::from(byte[0]) / 255.0
}

/// A token: 32 hexadecimal digits of chance. As a session id, it is visible ASCII, as the protocol demands.
///
/// `None` where the system has no chance to give.
pub(crate) fn token() -> Option<String> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
