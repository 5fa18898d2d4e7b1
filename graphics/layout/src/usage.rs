// SPDX-License-Identifier: Apache-2.0
//! Uses of a buffer.

/// Bits of Android's `BufferUsage` from a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Usage(pub u64);

/// Masks of `BufferUsage`.
impl Usage {
    /// CPU reads: never, rarely (2) or often (3).
    pub const CPU_READ: u64 = 0xf;
    /// CPU writes, in the next four bits.
    pub const CPU_WRITE: u64 = 0xf0;
    /// The GPU reads it as a texture.
    pub const GPU_TEXTURE: u64 = 1 << 8;
    /// The GPU draws into it.
    pub const GPU_RENDER_TARGET: u64 = 1 << 9;
    /// The display shows it as a layer.
    pub const COMPOSER_OVERLAY: u64 = 1 << 11;
    /// The display shows it as the target of a composition.
    pub const COMPOSER_CLIENT_TARGET: u64 = 1 << 12;
    /// Only trusted devices may read it.
    pub const PROTECTED: u64 = 1 << 14;
    /// The display shows it as its cursor.
    pub const COMPOSER_CURSOR: u64 = 1 << 15;
    /// A video encoder reads it.
    pub const VIDEO_ENCODER: u64 = 1 << 16;
    /// A camera fills it.
    pub const CAMERA_OUTPUT: u64 = 1 << 17;
    /// A camera reads it.
    pub const CAMERA_INPUT: u64 = 1 << 18;
    /// `RenderScript` uses it.
    pub const RENDERSCRIPT: u64 = 1 << 20;
    /// A video decoder fills it.
    pub const VIDEO_DECODER: u64 = 1 << 22;
    /// Sensors write their events into it.
    pub const SENSOR_DIRECT_DATA: u64 = 1 << 23;
    /// The GPU reads data from it.
    pub const GPU_DATA_BUFFER: u64 = 1 << 24;
    /// It is a cube map texture.
    pub const GPU_CUBE_MAP: u64 = 1 << 25;
    /// It is a texture with all mipmap levels.
    pub const GPU_MIPMAP_COMPLETE: u64 = 1 << 26;
    /// A hardware image encoder reads it.
    pub const HW_IMAGE_ENCODER: u64 = 1 << 27;
    /// Clients draw into it while the display shows it.
    pub const FRONT_BUFFER: u64 = 1 << 32;

    /// Bits that Android has removed: clients still set them, and they have no effect.
    pub const REMOVED: u64 = 1 << 10 | 1 << 13;
    /// Bits whose meaning vendors define.
    pub const VENDOR: u64 = 0xf000_0000 | 0xffff << 48;
    /// All defined bits, except those of vendors.
    pub const DEFINED: u64 = Self::CPU_READ
        | Self::CPU_WRITE
        | Self::GPU_TEXTURE
        | Self::GPU_RENDER_TARGET
        | Self::COMPOSER_OVERLAY
        | Self::COMPOSER_CLIENT_TARGET
        | Self::PROTECTED
        | Self::COMPOSER_CURSOR
        | Self::VIDEO_ENCODER
        | Self::CAMERA_OUTPUT
        | Self::CAMERA_INPUT
        | Self::RENDERSCRIPT
        | Self::VIDEO_DECODER
        | Self::SENSOR_DIRECT_DATA
        | Self::GPU_DATA_BUFFER
        | Self::GPU_CUBE_MAP
        | Self::GPU_MIPMAP_COMPLETE
        | Self::HW_IMAGE_ENCODER
        | Self::FRONT_BUFFER;

    /// Returns whether any bit of `mask` is set.
    pub fn has(self, mask: u64) -> bool {
        self.0 & mask != 0
    }

    /// Returns the bits without a meaning: undefined bits, vendor bits outside `vendor`, and a CPU
    /// field with an invalid value.
    pub fn unknown(self, vendor: u64) -> u64 {
        let field = |mask: u64, shift: u32| {
            let is_known = [0, 2, 3].contains(&((self.0 & mask) >> shift));
            if is_known { 0 } else { self.0 & mask }
        };
        let bits = self.0 & !(Self::DEFINED | Self::REMOVED | (vendor & Self::VENDOR));
        bits | field(Self::CPU_READ, 0) | field(Self::CPU_WRITE, 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undefined_usage_bits_are_unknown() {
        for known in [0, 0x33, 0x22, 0x30, Usage::DEFINED & !0xcc, Usage::REMOVED, 1 << 32] {
            assert_eq!(Usage(known).unknown(0), 0, "{known:#x}");
        }
        for (usage, unknown) in [
            (0x1, 0x1),
            (0x4, 0x4),
            (0xf, 0xf),
            (0x13, 0x10),
            (0x40, 0x40),
            (1 << 19 | 0x33, 1 << 19),
            (1 << 21, 1 << 21),
            (1 << 33, 1 << 33),
            (1 << 47, 1 << 47),
            (1 << 48, 1 << 48),
            (1 << 28, 1 << 28),
        ] {
            assert_eq!(Usage(usage).unknown(0), unknown, "{usage:#x}");
        }
        assert_eq!(Usage(1 << 28 | 1 << 63).unknown(1 << 63), 1 << 28);
        assert_eq!(Usage(1 << 33).unknown(u64::MAX), 1 << 33, "it is no bit of vendors");
    }
}
