/* SPDX-License-Identifier: Apache-2.0 */
/** Checks that the mapper's header compiles as C. */
#include <anion-mapper.h>

_Static_assert(offsetof(AIMapper, v5) == sizeof(void *), "AIMapper.v5");
_Static_assert(sizeof(AIMapper) == (sizeof(void *) == 8 ? 128 : 64), "AIMapper");
_Static_assert(offsetof(AIMapperV5, lock) == 3 * sizeof(void *), "AIMapperV5.lock");
_Static_assert(offsetof(AIMapperV5, getReservedRegion) == 14 * sizeof(void *), "AIMapperV5.getReservedRegion");

int main(void) {
    return 0;
}
