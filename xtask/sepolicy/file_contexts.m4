# SPDX-License-Identifier: Apache-2.0
# The platform's labels, by release.
/dev/dma_heap/system    u:object_r:dmabuf_system_heap_device:s0
/dev/dma_heap(/.*)?    u:object_r:dmabuf_heap_device:s0
ifelse(platform_ion_label, `true', `/dev/ion    u:object_r:ion_device:s0')
ifelse(platform_udmabuf, `true', `/dev/udmabuf    u:object_r:udmabuf_device:s0')
