# SPDX-License-Identifier: Apache-2.0
# The service's uid, for TARGET_FS_CONFIG_GEN. Any other free number from 2900 to 2999 works as
# well.
[AID_VENDOR_ANION]
value: 2937
