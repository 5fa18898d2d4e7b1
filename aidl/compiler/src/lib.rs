// SPDX-License-Identifier: Apache-2.0
//! Nothing: the build script does the work of this package. `cargo xtask aidl-code` builds it and
//! takes what its build script and rsbinder's have generated.
