//! The whole of it over a real `cert.db`, with restarts.
