//! vts
