/* The score stage's inner loops: text to boxes, and boxes to curves.
 *
 * They do what the Python code beside them does (results.py, curves.py) and give the same bits; that code is the reference, and
 * does the work where no C compiler is. Compile with -ffp-contract=off: a fused multiply-add would round differently.
 */
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

_Static_assert(FLT_EVAL_METHOD == 0 && DBL_MANT_DIG == 53, "a double must be evaluated as a double");

typedef unsigned __int128 wide;

/* ---- numbers ---- */

static const double TENS[23] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
enum { MOST_DIGITS = 19, MOST_TENS = 27 }; /* 10^19 - 1 and 5^27 fit into 64 bits */

static double power_of_two(int exponent) {
    uint64_t bits = (uint64_t)(exponent + 1023) << 52;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* m * 10^e to the nearest double, for 0 < m < 10^19 and |e| <= 27.
 * Where m and the power are doubles, one operation rounds once (Clinger 1990). Else 64 bits of the exact result are computed
 * in integers, the last of them set where bits were lost below it, and rounded once to 53. */
static double scaled(uint64_t m, int e) {
    if (m <= 1ull << DBL_MANT_DIG && e >= -22 && e <= 22) return e < 0 ? (double)m / TENS[-e] : (double)m * TENS[e];
    uint64_t five = 1;
    for (int i = e < 0 ? -e : e; i > 0; i--) five *= 5;
    int up = __builtin_clzll(m), down;
    uint64_t top;
    m <<= up;
    if (e < 0) {
        int lift = __builtin_clzll(five);
        five <<= lift;
        wide numerator = (wide)m << 63;
        top = (uint64_t)(numerator / five); /* at least 2^62, less than 2^64 */
        if ((wide)top * five != numerator) top |= 1;
        down = lift - 63;
    } else {
        wide product = (wide)m * five; /* at least 2^63 */
        uint64_t high = (uint64_t)(product >> 64);
        down = high ? 64 - __builtin_clzll(high) : 0;
        top = (uint64_t)(product >> down);
        if ((wide)top << down != product) top |= 1;
    }
    return (double)top * power_of_two(down - up + e);
}

static int is_digit(unsigned char c) { return (unsigned)(c - '0') < 10; }

static int is_word(const unsigned char *p, const char *word) { /* three letters, of either case */
    for (int i = 0; i < 3; i++)
        if ((p[i] | 32) != word[i]) return 0;
    return 1;
}

/* Read one number at *at and step behind it; 0 where Python's float has to say what it is. */
static int read_number(const unsigned char **at, double *value) {
    const unsigned char *p = *at;
    int negative = *p == '-';
    p += negative || *p == '+';
    const unsigned char *first = p;
    uint64_t m = 0; /* may wrap where there are more than 19 digits: given up below */
    for (; is_digit(*p); p++) m = 10 * m + (*p - '0');
    int digits = (int)(p - first), e = 0;
    if (*p == '.') {
        const unsigned char *fraction = ++p;
        for (; is_digit(*p); p++) m = 10 * m + (*p - '0');
        e = (int)(fraction - p);
        digits -= e;
    }
    if (digits > 0 && digits <= 15 && (*p | 32) != 'e' && e >= -22) { /* nearly all there are: one rounding */
        double plain = (double)(int64_t)m;
        if (e) plain /= TENS[-e];
        *value = negative ? -plain : plain;
        *at = p;
        return 1;
    }
    if (digits == 0) {
        if (is_word(p, "nan")) *value = (double)NAN;
        else if (is_word(p, "inf")) *value = negative ? -(double)INFINITY : (double)INFINITY;
        else return 0;
        *at = p + 3;
        return 1;
    }
    if (digits > MOST_DIGITS) {
        for (; *first == '0' || *first == '.'; first++) digits -= *first == '0'; /* zeros in front weigh nothing */
        if (digits > MOST_DIGITS) return 0;
    }
    if ((*p | 32) == 'e') {
        int minus = *++p == '-';
        p += minus || *p == '+';
        if (!is_digit(*p)) return 0;
        int exponent = 0;
        for (; is_digit(*p); p++)
            if ((exponent = 10 * exponent + (*p - '0')) > 999) return 0;
        e += minus ? -exponent : exponent;
    }
    if (m && (e < -MOST_TENS || e > MOST_TENS)) return 0;
    double result = m ? scaled(m, (int)e) : 0.0;
    *value = negative ? -result : result;
    *at = p;
    return 1;
}

/* ---- text to boxes ---- */

static const unsigned char *skip_blanks(const unsigned char *p) {
    while (*p == ' ' || *p == '\t') p++;
    return p;
}

/* Boxes of `text`, which ends with a zero byte at text[size]: the first `capacity` into x, y, w, h. Returns how many there
 * are, or -1 where a line is not four plain numbers: the careful reader then says what is wrong, and where. */
int64_t scan_boxes(const unsigned char *text, int64_t size, int64_t capacity, double *x, double *y, double *w, double *h) {
    double *planes[4] = {x, y, w, h}, unused;
    int64_t rows = 0;
    const unsigned char *p = text, *end = text + size;
    if (size >= 3 && !memcmp(p, "\xEF\xBB\xBF", 3)) p += 3;
    while ((p = skip_blanks(p)) < end) {
        if (*p == '\n' || *p == '\r') {
            p++;
            continue;
        }
        for (int i = 0; i < 4; i++) {
            if (i) {
                if (*p == ',') {
                    p++;
                } else {
                    const unsigned char *before = p;
                    p = skip_blanks(p);
                    if (*p == ',' || *p == ';') p++;
                    if (p == before) return -1;
                }
                p = skip_blanks(p);
            }
            if (!read_number(&p, rows < capacity ? planes[i] + rows : &unused)) return -1;
        }
        while (*p == ',' || *p == ';' || *p == ' ' || *p == '\t') p++;
        if (*p != '\n' && *p != '\r' && p != end) return -1;
        rows++;
    }
    return rows;
}

/* ---- boxes to a record: three curves and what was counted ---- */

typedef struct { /* one frame's ground truth, and what does not depend on the tracker */
    double x, y, right, bottom, area;
    double centre_x, centre_y, width, height, norm_x, norm_y; /* norm: the centre in units of width and height */
} truth_t;

typedef struct { /* one sequence's ground truth under one benchmark's rules: scanner.py's _Ground */
    int64_t frames, scored; /* of the sequence; in the denominator of the mean overlap */
    const truth_t *truth;
    const uint8_t *kinds;
    const double *first; /* the box that stands for every tracker's first, or NULL */
    int64_t repair;
    double corner, middle; /* 1 where the benchmark takes one off sizes for the far corner and for the centre, else 0 */
    double share;          /* denominator of the curves */
    const double *thresholds[3];
    int64_t steps[3];
} ground_t;

enum { UNREPAIRED = 1, NOT_COMPARED = 2, PIXEL_HIT = 4, NORM_HIT = 8 }; /* bits of a frame's kind */
enum { REPAIR_NONE, REPAIR_BAD, REPAIR_ZERO_SIZE, REPAIR_MISS };
enum { MOST_STEPS = 128 };

/* MATLAB's min and max, which ignore a NaN: without a branch where only `a` can be one, and in general. */
static double lesser(double a, double b) { return a < b ? a : b; }
static double greater(double a, double b) { return a > b ? a : b; }
static double least(double a, double b) { return b != b ? a : lesser(a, b); }
static double most(double a, double b) { return b != b ? a : greater(a, b); }

/* How many of the evenly spaced thresholds (from 0) are below `value`, which is a number. */
static int64_t rank_of(double value, const double *thresholds, double last, double each) {
    int64_t nearest = (int64_t)(lesser(greater(value * each, 0), last) + 0.5);
    return nearest + (thresholds[nearest] < value); /* what is left of the nearest is below the value, what is right above it */
}

/* The record of boxes [4, N]: curves of overlap, pixel error and normalised error, then mean overlap, denominator, repaired rows
 * and rows with NaN or infinity. Returns where it ends. */
static double *score(const double *boxes, const ground_t *g, double *record) {
    const double *xs = boxes, *ys = xs + g->frames, *ws = ys + g->frames, *hs = ws + g->frames;
    int64_t counts[3][MOST_STEPS + 1] = {{0}}, repaired = 0, non_finite = 0;
    double last[3], each[3], overlap = 0;
    for (int i = 0; i < 3; i++) {
        last[i] = (double)(g->steps[i] - 1);
        each[i] = last[i] / g->thresholds[i][g->steps[i] - 1];
    }
    double px = 0, py = 0, pw = 0, ph = 0; /* the row before */
    for (int64_t n = 0; n < g->frames; n++) {
        const truth_t *t = g->truth + n;
        int kind = g->kinds[n];
        double x = xs[n], y = ys[n], w = ws[n], h = hs[n];
        int finite = (x - x) + (y - y) + (w - w) + (h - h) == 0;
        non_finite += !finite;
        int good = g->repair == REPAIR_BAD         ? w > 0 && h > 0 && x == x && y == y
                   : g->repair == REPAIR_ZERO_SIZE ? w != 0 && h != 0
                                                   : g->repair == REPAIR_NONE || (finite && w > 0 && h > 0);
        if (!good && g->repair == REPAIR_MISS) { /* NaN meets nothing */
            x = y = w = h = NAN;
            repaired++;
        } else if (!good && n > 0 && !(kind & UNREPAIRED)) {
            x = px, y = py, w = pw, h = ph;
            repaired++;
        }
        px = x, py = y, pw = w, ph = h;
        if (n == 0 && g->first) x = g->first[0], y = g->first[1], w = g->first[2], h = g->first[3];
        double iou = -1, pixel = INFINITY, norm = INFINITY;
        if (!(kind & NOT_COMPARED)) {
            double right = x + w - g->corner, bottom = y + h - g->corner, left, top;
            if (kind & UNREPAIRED) { /* the ground truth may hold a NaN */
                right = least(right, t->right), bottom = least(bottom, t->bottom);
                left = most(x, t->x), top = most(y, t->y);
            } else {
                right = lesser(right, t->right), bottom = lesser(bottom, t->bottom);
                left = greater(x, t->x), top = greater(y, t->y);
            }
            double inner = greater(right - left + g->corner, 0) * greater(bottom - top + g->corner, 0);
            double cx = (w - g->middle) * 0.5 + x, cy = (h - g->middle) * 0.5 + y;
            double dx = cx - t->centre_x, dy = cy - t->centre_y;
            double nx = cx / t->width - t->norm_x, ny = cy / t->height - t->norm_y;
            iou = greater(inner / (w * h + t->area - inner), -1);
            pixel = lesser(sqrt(dx * dx + dy * dy), INFINITY);
            norm = lesser(sqrt(nx * nx + ny * ny), INFINITY);
        } else {
            if (kind & PIXEL_HIT) pixel = -1;
            if (kind & NORM_HIT) norm = -1;
        }
        counts[0][rank_of(iou, g->thresholds[0], last[0], each[0])]++;
        counts[1][rank_of(pixel, g->thresholds[1], last[1], each[1])]++;
        counts[2][rank_of(norm, g->thresholds[2], last[2], each[2])]++;
        overlap += greater(iou, 0);
    }
    int64_t above = 0; /* success counts frames above a threshold, the errors those at it or below */
    for (int64_t i = g->steps[0]; i > 0; i--) record[i - 1] = (double)(above += counts[0][i]) / g->share;
    record += g->steps[0];
    for (int c = 1; c < 3; c++) {
        int64_t within = 0;
        for (int64_t i = 0; i < g->steps[c]; i++) *record++ = (double)(within += counts[c][i]) / g->share;
    }
    *record++ = overlap / (double)(g->scored > 1 ? g->scored : 1);
    *record++ = (double)g->scored;
    *record++ = (double)repaired;
    *record++ = (double)non_finite;
    return record;
}

/* The records of boxes [4, N] under several protocols, one behind the other; `extra` rows follow the last frame's. */
static void score_all(const double *boxes, int64_t protocols, const ground_t *grounds, int64_t extra, double *record) {
    for (int64_t i = 0; i < protocols; i++) {
        record = score(boxes, grounds + i, record);
        *record++ = 0; /* rows missing */
        *record++ = (double)extra;
    }
}

void score_boxes(const double *boxes, int64_t protocols, const ground_t *grounds, double *record) {
    score_all(boxes, protocols, grounds, 0, record);
}

/* The same of a result file; `room` holds [4, N] boxes. Returns the file's rows, as scan_boxes does; a file shorter than the
 * sequence has no record. */
int64_t score_text(const unsigned char *text, int64_t size, double *room, int64_t protocols, const ground_t *grounds,
                   double *record) {
    int64_t n = grounds->frames, rows = scan_boxes(text, size, n, room, room + n, room + 2 * n, room + 3 * n);
    if (rows >= n) score_all(room, protocols, grounds, rows - n, record);
    return rows;
}
