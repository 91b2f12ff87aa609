//! What nobody can guess.

/// A token: 32 hexadecimal digits of chance. As a session id, it is visible ASCII, as the protocol demands.
///
/// `None` where the system has no chance to give.
pub(crate) fn token() -> Option<String> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
