/* The tiles of a build, and the tables that list them. */
#define TILES(R)                                                                                             \
    TILE(R, 8, half_vec, HALF_LANES, ADD_HALF_PRODUCT, put_half_columns)                                     \
    TILE(R, 16, vec, LANES, ADD_PRODUCT, put_columns) TILE(R, 32, vec, LANES, ADD_PRODUCT, put_columns)
#define TILE_ROW(R) {tile_##R##_8, tile_##R##_16, tile_##R##_32}
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
