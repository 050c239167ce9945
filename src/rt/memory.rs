//! How the C library's allocator treats a server that runs for months.
#![allow(unsafe_code, reason = "mallopt has no safe binding")]

/// Heaps that threads share. glibc would make eight for each core, and each keeps its own holes.
/// Small blocks come from a cache of each thread's own all the same.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const HEAPS_MAX: i32 = 1;
/// Blocks from this size on go back to the system when they are freed. glibc would raise the bound
/// at the first large block, which is the 19 MB that checking a password takes, and keep those.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE_BYTES: i32 = 1 << 20;

/// Sets the allocator up. Called before there is a second thread; other C libraries need nothing.
pub fn set_up() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use std::ffi::c_int;

        /// From glibc's malloc.h.
        const M_MMAP_THRESHOLD: c_int = -3;
        /// From glibc's malloc.h.
        const M_ARENA_MAX: c_int = -8;

        unsafe extern "C" {
            fn mallopt(parameter: c_int, value: c_int) -> c_int;
        }
        // SAFETY: mallopt takes two integers and only changes how later calls allocate. It answers
        // 0 to what it does not know, and then the allocator stays as it was.
        unsafe {
            mallopt(M_ARENA_MAX, HEAPS_MAX);
            mallopt(M_MMAP_THRESHOLD, LARGE_BYTES);
        }
    }
}

/// Gives the system what is free in the middle of the heap: after a burst that is most of it.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        // SAFETY: malloc_trim may be called at any time from any thread.
        unsafe {
            malloc_trim(0);
        }
    }
}
