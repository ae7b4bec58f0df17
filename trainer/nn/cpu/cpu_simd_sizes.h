/* The tiles of a build, and the tables that list them. */
#define TILES(R) TILE(R, 1) TILE(R, 2)
#define TILE_ROW(R) {tile_##R##_1, tile_##R##_2}
#if SIMD_MOST == 8
TILES(8) TILES(4) TILES(2) TILES(1)
#define TILE_SIZES {8, 4, 2, 1}
#define TILE_TABLE {TILE_ROW(8), TILE_ROW(4), TILE_ROW(2), TILE_ROW(1)}
#elif SIMD_MOST == 6
TILES(6) TILES(3) TILES(2) TILES(1)
#define TILE_SIZES {6, 3, 2, 1}
#define TILE_TABLE {TILE_ROW(6), TILE_ROW(3), TILE_ROW(2), TILE_ROW(1)}
#else
TILES(4) TILES(3) TILES(2) TILES(1)
#define TILE_SIZES {4, 3, 2, 1}
#define TILE_TABLE {TILE_ROW(4), TILE_ROW(3), TILE_ROW(2), TILE_ROW(1)}
#endif
