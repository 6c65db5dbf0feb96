/* The points of one series of a range query's answer, read in a single pass.

   Reads `1700000000,"12.5"],[1700000060,"NaN"]]`, what stands after `"values":[[`, and refuses
   whatever is not exactly of that form. Every value is the double nearest to its decimal text. */

#define _GNU_SOURCE /* strtod_l */
#include <locale.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __APPLE__
#include <xlocale.h>
#endif

#if !defined(__SIZEOF_INT128__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "needs 128-bit integers and a little-endian processor"
#endif

#define REFUSED (-1)
#define MISSING UINT64_C(0x7FF8000000000000)
#define UNDEFINED UINT64_C(0x7FF8000000000001)

/* A change of the functions' meaning or arguments changes this number, in the loader too. */
int queuescope_points_version(void) { return 1; }

static locale_t c_locale;

static const double POWERS_OF_TEN[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                       1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                       1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
static const uint64_t WHOLE_POWERS_OF_TEN[] = {1,      10,      100,     1000,
                                              10000, 100000, 1000000, 10000000};
#define LARGEST_EXACT_POWER_OF_TEN 22
#define LARGEST_POWER_OF_FIVE 27 /* 5^27 < 2^63 */

static uint64_t POWERS_OF_FIVE[LARGEST_POWER_OF_FIVE + 1];

__attribute__((constructor)) static void prepare(void) {
  c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
  POWERS_OF_FIVE[0] = 1;
  for (int k = 1; k <= LARGEST_POWER_OF_FIVE; k++) POWERS_OF_FIVE[k] = 5 * POWERS_OF_FIVE[k - 1];
}

static inline uint64_t eight_bytes(const char *at) {
  uint64_t bytes;
  memcpy(&bytes, at, sizeof bytes);
  return bytes;
}

/* The number that eight digits write, two, four and eight at a time. */
static inline uint64_t of_digits(uint64_t bytes) {
  bytes -= UINT64_C(0x3030303030303030);
  bytes = bytes * 10 + (bytes >> 8);
  return (((bytes & UINT64_C(0x000000FF000000FF)) * UINT64_C(0x000F424000000064)) +
          (((bytes >> 16) & UINT64_C(0x000000FF000000FF)) * UINT64_C(0x0000271000000001))) >> 32;
}

static inline int is_digit(char c) { return (unsigned char)(c - '0') < 10; }

/* The high bits of each byte that is no digit, as far as the first such byte. */
static inline uint64_t others(uint64_t bytes) {
  return ((bytes & UINT64_C(0xF0F0F0F0F0F0F0F0)) ^ UINT64_C(0x3030303030303030)) |
         (((bytes + UINT64_C(0x0606060606060606)) & UINT64_C(0xF0F0F0F0F0F0F0F0)) ^
          UINT64_C(0x3030303030303030));
}

/* Adds the digits at `at` to `number`, which may wrap around; ends at the first other byte. */
static inline const char *digits(const char *at, const char *end, uint64_t *number) {
  uint64_t found = *number;
  while (end - at >= 8) {
    uint64_t bytes = eight_bytes(at), other = others(bytes);
    if (other) {
      int count = __builtin_ctzll(other) >> 3;
      if (count) {
        int rest = 64 - 8 * count;
        bytes = bytes << rest | UINT64_C(0x3030303030303030) >> (64 - rest);
        found = found * WHOLE_POWERS_OF_TEN[count] + of_digits(bytes);
      }
      *number = found;
      return at + count;
    }
    found = found * 100000000 + of_digits(bytes);
    at += 8;
  }
  while (is_digit(*at)) found = found * 10 + (uint64_t)(*at++ - '0');
  *number = found;
  return at;
}

/* The double nearest to number / 10^k, for 0 < k <= 27 and a number that is not zero.

   The quotient by 5^k has 63 or 64 bits and its remainder is known, so the rounding to 53 bits is
   exact; the power of two only shifts it. The result lies far within the normal range. */
static inline double quotient(uint64_t number, int k) {
  int up = __builtin_clzll(number), down = __builtin_clzll(POWERS_OF_FIVE[k]);
  uint64_t divisor = POWERS_OF_FIVE[k] << down;
  unsigned __int128 dividend = (unsigned __int128)(number << up) << 63;
  uint64_t bits = (uint64_t)(dividend / divisor); /* from 2^62 to 2^64 - 1 */
  int inexact = (unsigned __int128)bits * divisor != dividend;
  int exponent = down - up - k - 63;
  int surplus = 11 - __builtin_clzll(bits);
  uint64_t half = UINT64_C(1) << (surplus - 1), rest = bits & (2 * half - 1);
  uint64_t mantissa = bits >> surplus;
  mantissa += (rest > half) | ((rest == half) & (inexact | (int)(mantissa & 1)));
  uint64_t power = (uint64_t)(exponent + surplus + 1023) << 52;
  double scale;
  memcpy(&scale, &power, sizeof scale);
  return (double)mantissa * scale;
}

static inline void put(double *place, uint64_t bits) { memcpy(place, &bits, sizeof bits); }

/* The value whose text starts at `at`; gives where it ends, or NULL. */
static inline const char *value(const char *at, const char *end, double *place) {
  const char *text = at;
  int negative = *at == '-';
  at += negative;
  if (!is_digit(*at)) {
    if (!strncmp(text, "NaN", 3)) return put(place, UNDEFINED), text + 3;
    if (!strncmp(text, "+Inf", 4) || !strncmp(text, "-Inf", 4))
      return put(place, UNDEFINED), text + 4;
    return NULL;
  }
  uint64_t number = 0;
  const char *first = at;
  while (is_digit(*at)) number = number * 10 + (uint64_t)(*at++ - (char)48);
  long long length = at - first, decimals = 0, exponent = 0;
  if (*at == '.') {
    const char *point = ++at;
    if (!is_digit(*at)) return NULL;
    if (number == 0 && length <= 19) { /* more digits may have wrapped around to zero */
      while (*at == '0') at++;
      length = point - at; /* zeros in front are no digits of the number */
    }
    at = digits(at, end, &number);
    decimals = at - point;
    length += decimals;
  }
  if (*at == 'e' || *at == 'E') {
    at++;
    int below = *at == '-';
    at += *at == '-' || *at == '+';
    if (!is_digit(*at)) return NULL;
    do {
      if (exponent < 100000) exponent = exponent * 10 + (*at - '0');
    } while (is_digit(*++at));
    if (below) exponent = -exponent;
  }
  exponent -= decimals;
  double found;
  if (length > 19) {
    goto slowly; /* the digits may not fit into 64 bits */
  } else if (exponent == 0 || number == 0) {
    found = (double)number;
  } else if (number <= UINT64_C(1) << 53 && -LARGEST_EXACT_POWER_OF_TEN <= exponent &&
             exponent <= LARGEST_EXACT_POWER_OF_TEN) {
    /* Both are exact doubles, so one operation rounds once. */
    found = exponent < 0 ? (double)number / POWERS_OF_TEN[-exponent]
                         : (double)number * POWERS_OF_TEN[exponent];
  } else if (-LARGEST_POWER_OF_FIVE <= exponent && exponent < 0) {
    found = quotient(number, (int)-exponent);
  } else {
  slowly:
    found = strtod_l(first, NULL, c_locale);
    if (found > 1.7976931348623157e308) return put(place, UNDEFINED), at;
  }
  *place = negative ? -found : found;
  return at;
}

/* Reads points from text[at], up to and with the brackets that close their list, into
   row[0 .. steps - 1], where a missing one is a NaN. The times must ascend, have ten digits, and
   stand on start, start + step, ... The text of `length` bytes must have a NUL behind its end.
   Gives the position behind the points, or -1 for any other form; `row` then means nothing. */
int64_t queuescope_read_points(const char *text, int64_t length, int64_t at, int64_t start,
                               int64_t step, int64_t steps, double *row) {
  const char *here = text + at, *end = text + length;
  if (!c_locale) return REFUSED;
  int64_t index = 0;
  for (int64_t expected = start;; expected += step) {
    if (end - here < 12 || here[10] != ',' || here[11] != '"') return REFUSED;
    uint64_t front = eight_bytes(here);
    if (others(front) || *here == '0' || !is_digit(here[8]) || !is_digit(here[9]))
      return REFUSED;
    int64_t time = (int64_t)of_digits(front) * 100 + (here[8] - '0') * 10 + (here[9] - '0');
    if (time != expected) {
      if (time < expected || (time - start) % step) return REFUSED;
      int64_t found = (time - start) / step;
      while (index < found && index < steps) put(&row[index++], MISSING);
      expected = time;
    }
    if (index >= steps) return REFUSED;
    here = value(here + 12, end, &row[index++]);
    if (!here || here[0] != '"' || here[1] != ']') return REFUSED;
    if (here[2] == ']') break;
    if (here[2] != ',' || here[3] != '[') return REFUSED;
    here += 4;
  }
  while (index < steps) put(&row[index++], MISSING);
  return here + 3 - text;
}
