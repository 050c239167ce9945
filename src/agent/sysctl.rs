//! Values of sysctl(3), and of /proc/sys on Linux: texts by the crate; numbers, structures and
//! arrays of macOS and FreeBSD as the kernel gives them, since the crate gives the first of an
//! array alone.
#![cfg_attr(
    target_os = "linux",
    allow(dead_code, reason = "Linux has texts alone; the tests use the rest")
)]

use sysctl::Sysctl as _;

/// The text of a value, trimmed; empty where there is none.
pub(crate) fn text(name: &str) -> String {
    let value = sysctl::Ctl::new(name).and_then(|ctl| ctl.value_string());
    value.unwrap_or_default().trim().to_owned()
}

/// The bytes of a value.
///
/// # Errors
///
/// As sysctlbyname(3), such as for a name that this system does not have.
#[cfg(not(target_os = "linux"))]
#[allow(unsafe_code, reason = "sysctlbyname has no safe binding")]
pub(crate) fn bytes(name: &str) -> std::io::Result<Vec<u8>> {
    let name = std::ffi::CString::new(name)?;
    // More than any of the values that are asked for.
    let mut value = vec![0_u8; 4_096];
    let mut length: libc::size_t = value.len();
    let into = value.as_mut_ptr().cast();
    // SAFETY: the name ends with a zero, `into` has room for `length` bytes, and nothing is set.
    let result = unsafe {
        libc::sysctlbyname(name.as_ptr(), into, &raw mut length, std::ptr::null_mut(), 0)
    };
    if result != 0 {
        return Err(std::io::Error::last_os_error());
    }
    value.truncate(length);
    Ok(value)
}

/// A number of four or eight bytes, none of which is negative.
pub(crate) fn number(bytes: &[u8]) -> Option<u64> {
    match bytes.len() {
        4 => words::<4>(bytes).next(),
        8 => words::<8>(bytes).next(),
        _ => None,
    }
}

/// The numbers of a structure or an array, `N` bytes each.
pub(crate) fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    let (chunks, _) = bytes.as_chunks::<N>();
    chunks.iter().map(|chunk| {
        let mut word = [0; 8];
        // The systems that are meant have the lowest byte first.
        word[..N].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    })
}

/// The averages of `struct loadavg { fixpt_t ldavg[3]; long fscale; }` (sys/resource.h): three
/// 32-bit numbers, padding, and the scale.
pub(crate) fn loads(bytes: &[u8]) -> Option<[f64; 3]> {
    let scale = words::<8>(bytes.get(16..24)?).next().filter(|scale| *scale > 0)?;
    let mut averages = words::<4>(bytes).map(|average| average as f64 / scale as f64);
    Some([averages.next()?, averages.next()?, averages.next()?])
}

/// The seconds of a `struct timeval`, whose first field is a 64-bit `time_t`.
pub(crate) fn seconds(bytes: &[u8]) -> Option<i64> {
    words::<8>(bytes).next().and_then(|secs| i64::try_from(secs).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_their_headers_lay_them_out() {
        assert_eq!(number(&16_384_u32.to_le_bytes()), Some(16_384));
        assert_eq!(number(&(1_u64 << 35).to_le_bytes()), Some(1 << 35));
        assert_eq!(number(&[1, 2, 3]), None);
        // kern.cp_time: long[CPUSTATES].
        let times: Vec<u8> = (1..=5_u64).flat_map(u64::to_le_bytes).collect();
        assert_eq!(words::<8>(&times).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        let averages = [1_024_u32, 2_048, 4_096, 0].into_iter().flat_map(u32::to_le_bytes);
        let load: Vec<u8> = averages.chain(2_048_u64.to_le_bytes()).collect();
        assert_eq!(loads(&load), Some([0.5, 1.0, 2.0]));
        assert_eq!(loads(&load[..20]), None);
        let time: Vec<u8> = [1_770_625_800_u64, 5].into_iter().flat_map(u64::to_le_bytes).collect();
        assert_eq!(seconds(&time), Some(1_770_625_800));
        assert_eq!(seconds(&[]), None);
    }
}
