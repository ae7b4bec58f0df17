/* The loops of the norms. A group norm's run down the columns of rows of `columns` numbers (ld apart), a layer norm's
 * along each row. */

static inline vec at(const float *x)
{
    return *(const vec *)x;
}

/* sum[j] += sum over rows of x. */
static void column_sums(float *sum, const float *x, int64_t rows, int64_t ld, int64_t columns)
{
    int64_t j = 0;

    for (; j + LANES <= columns; j += LANES) {
        vec s = at(sum + j);
        for (int64_t r = 0; r < rows; r++)
            s += at(x + r * ld + j);
        *(vec *)(sum + j) = s;
    }
    for (; j < columns; j++)
        for (int64_t r = 0; r < rows; r++)
            sum[j] += x[r * ld + j];
}

/* sum[j] += sum over rows of (x - mean[j])^2. */
static void column_squares(float *sum, const float *x, const float *mean, int64_t rows, int64_t ld, int64_t columns)
{
    int64_t j = 0;

    for (; j + LANES <= columns; j += LANES) {
        vec s = at(sum + j);
        for (int64_t r = 0; r < rows; r++) {
            vec d = at(x + r * ld + j) - at(mean + j);
            s += d * d;
        }
        *(vec *)(sum + j) = s;
    }
    for (; j < columns; j++)
        for (int64_t r = 0; r < rows; r++) {
            float d = x[r * ld + j] - mean[j];
            sum[j] += d * d;
        }
}

/* sum[j] += sum over rows of dy; with_x[j] += of dy (x - mean[j]). */
static void column_dots(float *sum, float *with_x, const float *x, const float *dy, const float *mean, int64_t rows,
                        int64_t ld, int64_t columns)
{
    int64_t j = 0;

    for (; j + LANES <= columns; j += LANES) {
        vec s = at(sum + j), t = at(with_x + j);
        for (int64_t r = 0; r < rows; r++) {
            vec d = at(dy + r * ld + j);
            s += d;
            t += d * (at(x + r * ld + j) - at(mean + j));
        }
        *(vec *)(sum + j) = s;
        *(vec *)(with_x + j) = t;
    }
    for (; j < columns; j++)
        for (int64_t r = 0; r < rows; r++) {
            sum[j] += dy[r * ld + j];
            with_x[j] += dy[r * ld + j] * (x[r * ld + j] - mean[j]);
        }
}

/* y = (x - mean[j]) * scale[j] + bias[j]. */
static void norm_apply(float *y, const float *x, const float *mean, const float *scale, const float *bias,
                       int64_t rows, int64_t ld, int64_t columns)
{
    for (int64_t r = 0; r < rows; r++, x += ld, y += ld) {
        int64_t j = 0;
        for (; j + LANES <= columns; j += LANES)
            *(vec *)(y + j) = (at(x + j) - at(mean + j)) * at(scale + j) + at(bias + j);
        for (; j < columns; j++)
            y[j] = (x[j] - mean[j]) * scale[j] + bias[j];
    }
}

/* dx = dy * scale[j] - (x - mean[j]) * slope[j] - level[j]. */
static void norm_grad(float *dx, const float *x, const float *dy, const float *mean, const float *scale,
                      const float *slope, const float *level, int64_t rows, int64_t ld, int64_t columns)
{
    for (int64_t r = 0; r < rows; r++, x += ld, dy += ld, dx += ld) {
        int64_t j = 0;
        for (; j + LANES <= columns; j += LANES)
            *(vec *)(dx + j) =
                at(dy + j) * at(scale + j) - (at(x + j) - at(mean + j)) * at(slope + j) - at(level + j);
        for (; j < columns; j++)
            dx[j] = dy[j] * scale[j] - (x[j] - mean[j]) * slope[j] - level[j];
    }
}

/* ---- along a row ---- */

typedef struct { float mean, rstd; } moments;

static inline moments row_moments(const float *x, int64_t c, float eps)
{
    vec s = {0};
    float sum = 0.0f, squares = 0.0f;
    int64_t j = 0;

    for (; j + LANES <= c; j += LANES)
        s += at(x + j);
    for (; j < c; j++)
        sum += x[j];
    const float mean = (sum + lanes_sum(s)) / (float)c;
    s = (vec){0};
    for (j = 0; j + LANES <= c; j += LANES) {
        vec d = at(x + j) - mean;
        s += d * d;
    }
    for (; j < c; j++)
        squares += (x[j] - mean) * (x[j] - mean);
    return (moments){mean, 1.0f / sqrtf((squares + lanes_sum(s)) / (float)c + eps)};
}

static void layer_norm(float *y, const float *x, const float *w, const float *bias, int64_t rows, int64_t c, float eps)
{
    for (int64_t r = 0; r < rows; r++, x += c, y += c) {
        const moments m = row_moments(x, c, eps);
        int64_t j = 0;
        for (; j + LANES <= c; j += LANES)
            *(vec *)(y + j) = (at(x + j) - m.mean) * m.rstd * at(w + j) + at(bias + j);
        for (; j < c; j++)
            y[j] = (x[j] - m.mean) * m.rstd * w[j] + bias[j];
    }
}

/* dx = (f - m(f) - xhat m(f xhat)) rstd with f = w dy. */
static void layer_norm_grad_x(float *dx, const float *x, const float *w, const float *dy, int64_t rows, int64_t c,
                              float eps)
{
    for (int64_t r = 0; r < rows; r++, x += c, dy += c, dx += c) {
        const moments m = row_moments(x, c, eps);
        vec sum = {0}, with_x = {0};
        float s = 0.0f, t = 0.0f;
        int64_t j = 0;
        for (; j + LANES <= c; j += LANES) {
            vec f = at(w + j) * at(dy + j);
            sum += f;
            with_x += f * (at(x + j) - m.mean);
        }
        for (; j < c; j++) {
            s += w[j] * dy[j];
            t += w[j] * dy[j] * (x[j] - m.mean);
        }
        const float level = (s + lanes_sum(sum)) / (float)c;
        const float slope = (t + lanes_sum(with_x)) / (float)c * m.rstd * m.rstd;
        for (j = 0; j + LANES <= c; j += LANES)
            *(vec *)(dx + j) = (at(w + j) * at(dy + j) - level - (at(x + j) - m.mean) * slope) * m.rstd;
        for (; j < c; j++)
            dx[j] = (w[j] * dy[j] - level - (x[j] - m.mean) * slope) * m.rstd;
    }
}

/* dw[j] += sum over rows of dy xhat, dbias[j] += of dy. */
static void layer_norm_grad_w(float *dw, float *dbias, const float *x, const float *dy, int64_t rows, int64_t c,
                              float eps)
{
    for (int64_t r = 0; r < rows; r++, x += c, dy += c) {
        const moments m = row_moments(x, c, eps);
        int64_t j = 0;
        for (; j + LANES <= c; j += LANES) {
            *(vec *)(dw + j) += at(dy + j) * (at(x + j) - m.mean) * m.rstd;
            *(vec *)(dbias + j) += at(dy + j);
        }
        for (; j < c; j++) {
            dw[j] += dy[j] * (x[j] - m.mean) * m.rstd;
            dbias[j] += dy[j];
        }
    }
}
