// SPDX-License-Identifier: Apache-2.0
//! Converts answers of the service to the dataclasses of `anion._records`.

use anion_client::{Backing, Heap, HeapType, PressureLevel, Refusal};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use vendor_anion_allocator::aidl::vendor::anion::allocator::BufferInfo::BufferInfo;
use vendor_anion_allocator::aidl::vendor::anion::allocator::ClientUsage::ClientUsage;
use vendor_anion_allocator::aidl::vendor::anion::allocator::Explanation::Explanation;
use vendor_anion_allocator::aidl::vendor::anion::allocator::HeapVerdict::HeapVerdict;

/// Returns a class, or another value, of the package's Python part.
pub(crate) fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import("anion._records")?.getattr(name)
}

/// Returns a heap as `anion.Heap`.
pub(crate) fn heap<'py>(py: Python<'py>, heap: &Heap) -> PyResult<Bound<'py, PyAny>> {
    let fields = PyDict::new(py);
    fields.set_item("id", heap.id)?;
    fields.set_item("name", &heap.name)?;
    fields.set_item("aliases", PyTuple::new(py, &heap.aliases)?)?;
    fields.set_item("kind", heap.kind.map(HeapType::name))?;
    fields.set_item("backing", heap.backing.map(Backing::name))?;
    fields.set_item("unavailable", &heap.unavailable)?;
    fields.set_item("capacity", heap.capacity)?;
    fields.set_item("granule", heap.granule)?;
    fields.set_item("max_alignment", heap.max_alignment)?;
    fields.set_item("stride_align", heap.stride_align)?;
    fields.set_item("is_cached", heap.is_cached)?;
    fields.set_item("is_zeroed", heap.is_zeroed)?;
    fields.set_item("is_secure", heap.is_secure)?;
    fields.set_item("gives_read_only", heap.gives_read_only)?;
    fields.set_item("is_held_by_token", heap.is_held_by_token)?;
    class(py, "Heap")?.call((), Some(&fields))
}

/// Returns a uid's usage as `anion.Usage`.
pub(crate) fn usage<'py>(py: Python<'py>, row: &ClientUsage) -> PyResult<Bound<'py, PyAny>> {
    let limit = |value: i64| Some(number(value)).filter(|value| *value > 0);
    let fields = PyDict::new(py);
    fields.set_item("uid", row.uid.cast_unsigned())?;
    fields.set_item("policy", &row.policy)?;
    fields.set_item("bytes", number(row.bytes))?;
    fields.set_item("buffers", number(row.buffers))?;
    fields.set_item("reserved_bytes", number(row.reservedBytes))?;
    fields.set_item("peak_bytes", number(row.peakBytes))?;
    fields.set_item("quota_bytes", limit(row.quotaBytes))?;
    fields.set_item("quota_buffers", limit(row.quotaBuffers))?;
    class(py, "Usage")?.call((), Some(&fields))
}

/// Returns the service's information on a buffer as `anion.Description`.
pub(crate) fn description<'py>(py: Python<'py>, found: &BufferInfo) -> PyResult<Bound<'py, PyAny>> {
    let fields = PyDict::new(py);
    fields.set_item("id", found.id.cast_unsigned())?;
    fields.set_item("bytes", number(found.size))?;
    fields.set_item("heap", &found.heapName)?;
    fields.set_item("heap_id", found.heapId.cast_unsigned())?;
    fields.set_item("backing", word(py, "BACKINGS", found.backing.0)?)?;
    fields.set_item("label", &found.name)?;
    fields.set_item("owner_uid", found.ownerUid.cast_unsigned())?;
    fields.set_item("owner_pid", found.ownerPid)?;
    fields.set_item("inode", found.inode.cast_unsigned())?;
    fields.set_item("age_ms", number(found.ageMs))?;
    class(py, "Description")?.call((), Some(&fields))
}

/// Returns an answer to `explain` as `anion.Explanation`.
pub(crate) fn explanation<'py>(py: Python<'py>, answer: &Explanation) -> PyResult<Bound<'py, PyAny>> {
    let verdicts: PyResult<Vec<_>> = answer.verdicts.iter().map(|one| verdict(py, one)).collect();
    let refusal = (!answer.possible).then(|| Refusal::from(answer.error).to_string());
    let fields = PyDict::new(py);
    fields.set_item("possible", answer.possible)?;
    fields.set_item("heap", Some(&answer.chosenHeap).filter(|name| !name.is_empty()))?;
    fields.set_item("refusal", refusal)?;
    fields.set_item("summary", &answer.summary)?;
    fields.set_item("verdicts", PyTuple::new(py, verdicts?)?)?;
    class(py, "Explanation")?.call((), Some(&fields))
}

fn verdict<'py>(py: Python<'py>, one: &HeapVerdict) -> PyResult<Bound<'py, PyAny>> {
    let fields = PyDict::new(py);
    fields.set_item("heap_id", Some(one.heapId).filter(|id| *id >= 0))?;
    fields.set_item("heap", &one.heapName)?;
    fields.set_item("verdict", word(py, "VERDICTS", one.verdict.0)?)?;
    fields.set_item("reason", &one.reason)?;
    fields.set_item("fits_bytes", number(one.fitsBytes))?;
    class(py, "Verdict")?.call((), Some(&fields))
}

/// Returns a level as `anion.PressureLevel`.
pub(crate) fn pressure(py: Python<'_>, level: PressureLevel) -> PyResult<Bound<'_, PyAny>> {
    class(py, "PressureLevel")?.call1((level as u32,))
}

/// Returns the word for a value of the interface's enumeration; `None` if it is newer.
fn word<'py>(py: Python<'py>, words: &str, value: i32) -> PyResult<Option<Bound<'py, PyAny>>> {
    let words = class(py, words)?.cast_into::<PyTuple>()?;
    Ok(usize::try_from(value).ok().and_then(|value| words.get_item(value).ok()))
}

/// Converts a number of the interface, which has no unsigned ones; 0 for a negative number.
fn number(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
