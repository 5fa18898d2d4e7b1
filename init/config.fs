# SPDX-License-Identifier: Apache-2.0
# The service's uid, for TARGET_FS_CONFIG_GEN; any other free number of the range 2900 to 2999 does as well.
[AID_VENDOR_ANION]
value: 2937
