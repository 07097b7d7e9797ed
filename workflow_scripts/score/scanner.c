/* The score stage's two inner loops: text to boxes, and boxes to histograms.
 *
 * Each does what Python code beside it does (results.py, curves.py) and gives the same bits; that code is the reference, and
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
    int64_t digits = p - first, e = 0;
    if (*p == '.') {
        const unsigned char *fraction = ++p;
        for (; is_digit(*p); p++) m = 10 * m + (*p - '0');
        e = fraction - p;
        digits -= e;
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
        int64_t exponent = 0;
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
                const unsigned char *before = p;
                p = skip_blanks(p);
                if (*p == ',' || *p == ';') p = skip_blanks(p + 1);
                if (p == before) return -1;
            }
            if (!read_number(&p, rows < capacity ? planes[i] + rows : &unused)) return -1;
        }
        while (*p == ',' || *p == ';' || *p == ' ' || *p == '\t') p++;
        if (*p != '\n' && *p != '\r' && p != end) return -1;
        rows++;
    }
    return rows;
}

/* ---- boxes to histograms ---- */

/* What a frame is, in its byte of `kinds`. */
enum { UNREPAIRED = 1, NOT_COMPARED = 2, PIXEL_HIT = 4, NORM_HIT = 8 };
/* Which rows copy the row before: `repair`. */
enum { NONE, BAD, ZERO_SIZE };

/* How many of the evenly spaced thresholds (from 0) are below `value`, which is no NaN. */
static int64_t rank_of(double value, const double *thresholds, int64_t last) {
    double guess = value * ((double)last / thresholds[last]);
    guess = guess < 0 ? 0 : guess > (double)last ? (double)last : guess;
    int64_t nearest = (int64_t)(guess + 0.5);
    return nearest + (thresholds[nearest] < value);
}

static double lesser(double a, double b) { return a < b || b != b ? a : b; } /* as fmin: a NaN loses */
static double greater(double a, double b) { return a > b || b != b ? a : b; }

/* Histograms of the ranks of overlap and both centre errors for `trackers` x `frames` boxes, planes [4, K, N].
 * truth: planes [11, N], see scanner.py. missed [K, N]: rows that count as a miss. The three `thresholds` lie behind each other,
 * as do the histograms [K, steps + 1]. `corner` and `middle` are the kits' minus one, or 0. */
void count_frames(int64_t trackers, int64_t frames, const double *boxes, const double *truth, const uint8_t *kinds,
                  const uint8_t *missed, const double *thresholds, const int64_t *steps, int64_t repair,
                  int64_t first_is_given, double corner, double middle, int64_t *histograms, double *overlap,
                  int64_t *repaired, int64_t *non_finite) {
    const int64_t plane = trackers * frames;
    const double *true_x = truth, *true_y = truth + frames, *right = truth + 2 * frames, *bottom = truth + 3 * frames,
                 *area = truth + 4 * frames, *centre_x = truth + 5 * frames, *centre_y = truth + 6 * frames,
                 *unit_x = truth + 7 * frames, *unit_y = truth + 8 * frames, *norm_x = truth + 9 * frames,
                 *norm_y = truth + 10 * frames;
    const double *at_overlap = thresholds, *at_pixel = at_overlap + steps[0], *at_norm = at_pixel + steps[1];
    for (int64_t k = 0; k < trackers; k++) {
        int64_t *above = histograms + k * (steps[0] + 1);
        int64_t *pixels = histograms + trackers * (steps[0] + 1) + k * (steps[1] + 1);
        int64_t *norms = histograms + trackers * (steps[0] + steps[1] + 2) + k * (steps[2] + 1);
        const double *box = boxes + k * frames;
        double x = 0, y = 0, w = 0, h = 0;
        for (int64_t n = 0; n < frames; n++) {
            double X = box[n], Y = box[n + plane], W = box[n + 2 * plane], H = box[n + 3 * plane];
            if (!missed[k * frames + n]) non_finite[k] += (X - X) + (Y - Y) + (W - W) + (H - H) != 0;
        }
        (void)x, (void)y, (void)w, (void)h, (void)above, (void)pixels, (void)norms, (void)overlap, (void)repaired;
    }
}
