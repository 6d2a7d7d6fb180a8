// The C guest of the meter's tests: tight loops, which are the meter's worst case, and vectors.
typedef unsigned int u32;
typedef unsigned long long u64;
typedef float f32x4 __attribute__((vector_size(16)));

#define EXPORT(name) __attribute__((export_name(#name)))

static u32 words[1 << 14];
static float a[1 << 12], b[1 << 12];

// A loop of a handful of instructions that cannot be unrolled or solved.
EXPORT(hash) u32 hash(u32 n) {
  u32 h = 2166136261u;
  for (u32 i = 0; i < n; i++) {
    h = (h ^ (i & 255)) * 16777619u;
  }
  return h;
}

EXPORT(xorshift) u64 xorshift(u32 n) {
  u64 x = 88172645463325252ull;
  for (u32 i = 0; i < n; i++) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
  }
  return x;
}

EXPORT(sieve) u32 sieve(u32 n) {
  if (n > (1 << 14)) n = 1 << 14;
  for (u32 i = 0; i < n; i++) words[i] = 0;
  u32 count = 0;
  for (u32 i = 2; i < n; i++) {
    if (words[i]) continue;
    count++;
    for (u32 j = 2 * i; j < n; j += i) words[j] = 1;
  }
  return count;
}

EXPORT(fib) u32 fib(u32 n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

EXPORT(saxpy) float saxpy(u32 n) {
  f32x4 sum = {0};
  for (u32 i = 0; i < (1 << 12); i++) { a[i] = i; b[i] = 0.5f * i; }
  for (u32 k = 0; k < n; k++) {
    f32x4 *x = (f32x4 *)a, *y = (f32x4 *)b;
    for (u32 i = 0; i < (1 << 10); i++) {
      y[i] = y[i] * 0.5f + x[i];
      sum += y[i];
    }
  }
  return sum[0] + sum[1] + sum[2] + sum[3];
}
