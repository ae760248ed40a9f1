/* A decoder of compact replies, written from docs/compact.md alone: decode CODEBOOK < blocks

   Input: blocks one after the other, each behind its kind (one byte, s: similar patterns, t: trends) and its length
   (uint32, little-endian). Output: the lines of tests/compact/lines.py, or "refused". Needs nothing but libc and libm. */

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIM = 384, AXES = 180, TABLES = 30, RUN = 6, ENTRIES = 256, SIMILAR_MAX = 100, TRENDS_MAX = 50 };
enum { HINTS_MAX = 8, STRINGS_MAX = SIMILAR_MAX * (3 + HINTS_MAX), STRING_MAX = 32, ID_MAX = 64, DAY_S = 86400 };

/* The codebook */

static const char magic[] = "constellation codebook";
static const uint8_t *centroids, *weights, *axes, *tables, *stamp;
static uint32_t size;

static uint32_t little(const uint8_t *at, int bytes) {
    uint32_t value = 0;
    while (bytes--) value = value << 8 | at[bytes];
    return value;
}

static int open_codebook(const uint8_t *file, size_t length) {
    size_t at = sizeof magic - 1 + 14;
    if (length < at + 8 || memcmp(file, magic, sizeof magic - 1) || little(file + sizeof magic - 1, 4) != 1) return 0;
    while (at + 20 <= length - 8) {
        char name[17] = {0};
        memcpy(name, file + at, 16);
        uint32_t bytes = little(file + at + 16, 4);
        at += 20;
        if (bytes > length - 8 - at) return 0;
        if (!strcmp(name, "centroids")) centroids = file + at, size = bytes / DIM;
        if (!strcmp(name, "weights")) weights = file + at;
        if (!strcmp(name, "axes") && bytes == AXES * DIM) axes = file + at;
        if (!strcmp(name, "tables") && bytes == TABLES * ENTRIES * RUN) tables = file + at;
        at += bytes;
    }
    stamp = file + length - 8;
    return centroids && weights && axes && tables;
}

/* One embedding; 0 if it is zero. */
static int embedding(uint32_t number, const uint8_t *residual, int8_t *code) {
    int32_t sums[DIM], peak = 0;
    int32_t weight = (int32_t)little(weights + 2 * number, 2);
    for (int j = 0; j < DIM; j++) sums[j] = weight * (int8_t)centroids[number * DIM + j];
    for (int i = 0; i < AXES; i++) {
        int32_t entry = (int8_t)tables[(i / RUN * ENTRIES + residual[i / RUN]) * RUN + i % RUN];
        for (int j = 0; j < DIM; j++) sums[j] += entry * (int8_t)axes[i * DIM + j];
    }
    for (int j = 0; j < DIM; j++) peak = abs(sums[j]) > peak ? abs(sums[j]) : peak;
    if (!peak) return 0;
    double scale = 127.0 / peak;
    for (int j = 0; j < DIM; j++) code[j] = (int8_t)rint(sums[j] * scale);
    return 1;
}

/* Reading */

static const uint8_t *block;
static size_t length, place;
static int wrong;

/* That many bytes; of a block that is too short 64 KiB of zeros, and it is wrong from now on. */
static const uint8_t *take(size_t count) {
    static const uint8_t zeros[1 << 16];
    if (wrong || count > length - place) {
        wrong = 1;
        return zeros;
    }
    place += count;
    return block + place - count;
}

static uint32_t within(uint32_t value, uint32_t low, uint32_t high) {
    if (value < low || value > high) {
        wrong = 1;
        return low;
    }
    return value;
}

static uint32_t byte(uint32_t low, uint32_t high) { return within(*take(1), low, high); }

static uint32_t varint(uint32_t high) {
    uint32_t value = 0;
    for (int i = 0; i < 3; i++) {
        uint8_t next = *take(1);
        value |= (uint32_t)(next & 127) << 7 * i;
        if (next < 128) return within(value, 0, high);
    }
    wrong = 1;
    return 0;
}

/* RFC 3629, section 4, and no NUL */
static int is_text(const uint8_t *at, size_t bytes) {
    for (size_t i = 0; i < bytes;) {
        uint8_t first = at[i++];
        int more = first < 0x80 ? 0 : first >> 5 == 6 ? 1 : first >> 4 == 14 ? 2 : first >> 3 == 30 ? 3 : -1;
        if (!first || more < 0 || i + more > bytes) return 0;
        uint32_t value = more ? first & (0x3f >> more) : first;
        for (int k = 0; k < more; k++, i++) {
            if (at[i] >> 6 != 2) return 0;
            value = value << 6 | (at[i] & 63);
        }
        static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
        if (value < least[more] || value > 0x10ffff || value >> 11 == 0x1b) return 0;
    }
    return 1;
}

struct text {
    const uint8_t *at;
    uint8_t bytes;
};

static void texts(struct text *into, const uint8_t *lens, uint32_t count, uint8_t low, uint8_t high) {
    for (uint32_t i = 0; i < count && !wrong; i++) {
        into[i].bytes = (uint8_t)within(lens[i], low, high);
        into[i].at = take(into[i].bytes);
        if (!wrong && !is_text(into[i].at, into[i].bytes)) wrong = 1;
    }
}

static void hex(const uint8_t *at, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) printf("%02x", at[i]);
}

/* Blocks */

static uint32_t count_of(uint8_t code) {
    within(code, 1, 143);
    return code < 8 ? code : (uint32_t)(8 + code % 8) << (code / 8 - 1);
}

static void similar(void) {
    static struct text strings[STRINGS_MAX];
    static int8_t codes[SIMILAR_MAX][DIM];
    static uint32_t of_occasions[3 * SIMILAR_MAX], of_hints[HINTS_MAX * SIMILAR_MAX], starts[SIMILAR_MAX + 1];
    uint32_t numbers[SIMILAR_MAX], counts[SIMILAR_MAX];
    int32_t updated[SIMILAR_MAX], created[SIMILAR_MAX];
    uint8_t handles[SIMILAR_MAX], seen[256] = {0}, handle = 0;
    byte(1, 1);
    if (memcmp(take(4), stamp, 4)) wrong = 1;
    uint32_t n = byte(0, SIMILAR_MAX), w = byte(0, n);
    uint32_t base = little(take(2), 2);
    const uint8_t *column = take(n);
    for (uint32_t i = 0; i < n; i++) {
        handles[i] = handle += column[i];
        if (seen[handle]++) wrong = 1;
    }
    const uint8_t *low = take(w), *high = take((w + 1) / 2);
    for (uint32_t i = 0; i < w; i++)
        numbers[i] = within(low[i] | (uint32_t)(high[i / 2] >> 4 * (i % 2) & 15) << 8, 0, size - 1);
    const uint8_t *rates = take(n);
    column = take(n);
    for (uint32_t i = 0; i < n; i++) counts[i] = count_of(column[i]);
    const uint8_t *prototypes = take((n + 7) / 8);
    for (uint32_t i = 0; i < n; i++) updated[i] = (int32_t)(base - varint(base));
    for (uint32_t i = 0; i < n; i++) {
        int32_t folded = (int32_t)varint(131071);
        created[i] = updated[i] - (folded % 2 ? -(folded + 1) / 2 : folded / 2);
        if (created[i] < 0 || created[i] > 65535) wrong = 1;
    }
    uint32_t count = varint(STRINGS_MAX);
    texts(strings, take(count), count, 0, STRING_MAX);
    uint32_t o = byte(n > 0, n), h = byte(n > 0, n);
    for (uint32_t i = 0; i < 3 * o; i++) of_occasions[i] = varint(count - 1);
    if (o && !count) wrong = 1;
    column = take(h);
    for (uint32_t i = 0; i < h; i++) starts[i + 1] = starts[i] + within(column[i], 0, HINTS_MAX);
    for (uint32_t i = 0; i < starts[h]; i++) of_hints[i] = varint(count - 1);
    const uint8_t *occasions = take(n), *hints = take(n);
    for (uint32_t i = 0; i < n; i++)
        if (occasions[i] >= o || hints[i] >= h) wrong = 1;
    const uint8_t *residuals = take(w * TABLES);
    if (place != length) wrong = 1;
    for (uint32_t i = 0; i < w && !wrong; i++)
        if (!embedding(numbers[i], residuals + i * TABLES, codes[i])) wrong = 1;
    if (wrong) return;
    printf("similar %u\n", n);
    for (uint32_t i = 0; i < n; i++) {
        printf("%u %u %u %d %d %u ", handles[i], rates[i], counts[i], created[i], updated[i],
               prototypes[i / 8] >> i % 8 & 1);
        for (int k = 0; k < 3; k++) {
            struct text text = strings[of_occasions[3 * occasions[i] + k]];
            hex(text.at, text.bytes);
            printf(k < 2 ? "," : " ");
        }
        for (uint32_t k = starts[hints[i]]; k < starts[hints[i] + 1]; k++) {
            struct text text = strings[of_hints[k]];
            printf(",");
            hex(text.at, text.bytes);
        }
        printf(" ");
        if (i < w) hex((const uint8_t *)codes[i], DIM);
        printf("\n");
    }
}

static void trends(void) {
    static struct text regions[TRENDS_MAX], ids[TRENDS_MAX];
    uint8_t score = 0;
    byte(1, 1);
    uint32_t n = byte(0, TRENDS_MAX), r = byte(n > 0, n);
    texts(regions, take(r), r, 0, 255);
    const uint8_t *of_region = take(n), *scores = take(n);
    texts(ids, take(n), n, 1, ID_MAX);
    for (uint32_t i = 0; i < n; i++)
        if (of_region[i] >= r) wrong = 1;
    if (place != length || wrong) {
        wrong = 1;
        return;
    }
    printf("trends %u\n", n);
    for (uint32_t i = 0; i < n; i++) {
        printf("%u ", score += scores[i]);
        hex(regions[of_region[i]].at, regions[of_region[i]].bytes);
        printf(" ");
        hex(ids[i].at, ids[i].bytes);
        printf("\n");
    }
}

static uint8_t *whole(FILE *file, size_t *bytes) {
    uint8_t *content = NULL;
    size_t room = 0;
    *bytes = 0;
    do {
        content = realloc(content, room += 1 << 20);
        if (!content) exit(1);
        *bytes += fread(content + *bytes, 1, room - *bytes, file);
    } while (*bytes == room);
    return content;
}

int main(int argc, char **argv) {
    FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
    size_t bytes, at = 0, codebook_bytes;
    if (!file) return 2;
    uint8_t *codebook = whole(file, &codebook_bytes);
    fclose(file);
    if (!open_codebook(codebook, codebook_bytes)) return 2;
    uint8_t *input = whole(stdin, &bytes);
    while (at + 5 <= bytes) {
        uint8_t kind = input[at];
        length = little(input + at + 1, 4);
        at += 5;
        if (length > bytes - at) return 2;
        uint8_t *copy = malloc(length ? length : 1); /* so that a sanitizer sees where it ends */
        if (!copy) return 1;
        memcpy(copy, input + at, length);
        at += length;
        block = copy, place = 0, wrong = 0;
        kind == 's' ? similar() : trends();
        if (wrong) printf("refused\n");
        free(copy);
    }
    free(codebook);
    free(input);
    return 0;
}
