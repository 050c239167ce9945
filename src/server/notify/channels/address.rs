//! Mail addresses that can be delivered to, and ids of chats.

/// A mail address as it goes over the wire, its domain in ASCII. Only what every mail server takes:
/// without the extension for UTF-8 names (RFC 6531) a local part is ASCII.
///
/// # Errors
///
/// Says what can't be delivered.
pub(crate) fn check_address(text: &str) -> Result<lettre::Address, String> {
    let wrong = |why: &str| format!("`{text}` is not a valid mail address{why}");
    let (local, domain) = text.rsplit_once('@').ok_or_else(|| wrong(" such as ops@example.com"))?;
    if !local.is_ascii() {
        return Err(wrong(": the part before the @ must be ASCII"));
    }
    if local.starts_with('"') {
        return Err(wrong(": the part before the @ must not be quoted"));
    }
    if domain.starts_with('[') {
        return Err(wrong(": name a domain, not an address"));
    }
    let domain = ascii_host(domain).ok_or_else(|| wrong(": its domain is not one"))?;
    format!("{local}@{domain}").parse().map_err(|_| wrong(" such as ops@example.com"))
}

/// A host name in ASCII, internationalised labels as `xn--…`; an address as it is.
pub(super) fn ascii_host(host: &str) -> Option<String> {
    if host.is_ascii() { Some(host.to_owned()) } else { idna::domain_to_ascii(host).ok() }
}

/// Checks the id of a chat, room or topic.
///
/// # Errors
///
/// Says what it must be.
pub(crate) fn check_id(id: &str) -> Result<(), String> {
    let bad = |c: char| c.is_whitespace() || c.is_control();
    if id.is_empty() || id.len() > ID_BYTES_MAX || id.contains(bad) {
        return Err(format!("must be an id of at most {ID_BYTES_MAX} bytes without spaces"));
    }
    Ok(())
}

/// Bytes of a chat's, room's or topic's id: those of Matrix have 255 at the most.
const ID_BYTES_MAX: usize = 255;
