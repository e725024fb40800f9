// Shapes and addresses of one training step of a VSAE, as plain data.
//
// Every matrix is row-major, one row per sample, with a leading dimension of row_stride(columns) floats. Columns past
// the last one, up to whole lines of kLine floats, hold zeros in parameters and gradients, so kernels may run over
// them.
#pragma once

namespace vsae {

inline constexpr int kLine = 16;  // floats in 64 bytes

// Proposals keep their log-variances within this, where exp and its gradient are tame.
inline constexpr float kLogVarianceLimit = 8.0f;
// Standard deviations within which hidden values are expected, TARGET_LIMIT in vsae_fast/objective.py.
inline constexpr float kTargetLimit = 10.0f;

static constexpr int lines(int columns) { return (columns + kLine - 1) / kLine; }
static constexpr int whole_lines(int columns) { return lines(columns) * kLine; }
// An odd number of lines: rows a power of two apart would fall into few sets of the first-level cache.
static constexpr int row_stride(int columns) { return (lines(columns) | 1) * kLine; }

// C[m, n] = leaky((accumulate ? C : bias or 0) + A[m, k] B[k, n]). A is read one value at a time with any strides,
// which makes A' B (gradients of weights) the same routine; `n` counts whole lines of B and C.
struct Product {
    const float* a;
    long a_row;
    long a_column;
    const float* b;
    long b_row;
    const float* bias;
    float* c;
    long c_row;
    int m;
    int n;
    int k;
    bool accumulate;
    float slope = 1.0f;  // of LeakyReLU; 1 leaves the sum as it is
};

// Batch normalisation and LeakyReLU of `rows` rows. Statistics are taken over the rows whose weight is 1.
struct Normalisation {
    int rows;
    int columns;
    int stride;
    float* h;                 // in: linear output; out: normalised values
    float* out;               // activated
    const float* row_weight;  // weight of row r at row_weight[r * weight_stride]; null: all ones
    long weight_stride;
    const float* gamma;
    const float* beta;
    float* running_mean;
    float* running_var;
    float* inverse;  // out: 1 / sqrt(var + eps), kept for the way back
    float slope;     // of LeakyReLU
    bool training;
    bool from_batch;  // out: whether the batch's own statistics were used
};

struct NormalisationGradient {
    Normalisation forward;
    float* gradient;  // in: of `out`; out: of the linear output
    float* gamma;     // gradients, overwritten
    float* beta;
};

// Log-weights of K samples of N rows, sample-major, and their gradients with respect to the decoders' outputs:
//   log w = sum_i weight_i E log p(x_i | z) + log p(m | z) (+ log N(z; 0, I) - log q(z) where `with_prior`)
struct LogWeights {
    int n_attributes;
    int n_columns;
    int n_latent;
    int n_samples;  // K
    int n_rows;     // N
    const int* attribute_start;
    const int* attribute_kind;
    const float* log_scale;      // [D]
    const float* precision;      // [D] exp(-2 log_scale), 0 in categorical columns
    const float* numerical;      // [D] 1 in numerical columns, else 0
    const float* attribute;      // [M] ones, then zeros to the end of the line
    const float* target;         // [N, D] values and one-hot levels, or the samples' means and frequencies
    const float* variance;       // [N, D] of the samples, or null
    const float* weight;         // [N, M]
    const float* column_weight;  // [N, D] weight of the column's attribute
    const float* mask;           // [N, M]
    const float* output;         // [K N, D]
    const float* mask_logits;    // [K N, M]
    const float* z;              // [K N, L]
    const float* noise;          // [K N, L] that gave z, and anything in the columns past L
    const float* log_variance;   // [N, L]
    int column_stride, attribute_stride, latent_stride, noise_stride, z_stride;
    bool with_prior;
    float* log_weight;          // [K N]
    float* output_gradient;     // [K N, D]
    float* log_scale_gradient;  // [K N, D]
    float* mask_gradient;       // [K N, M]
    float* scratch;             // [M] and [D], for this call alone
    long first, last;           // samples k N + row to do
};

// z = mean + exp(log_variance / 2) noise for K samples of rows first..last-1 of N.
struct Latents {
    int n_samples;
    int n_rows;
    int first, last;
    int n_latent;
    int latent_stride;  // of mean and log_variance
    int noise_stride;   // any: noise need not be aligned
    int z_stride;
    const float* mean;
    const float* log_variance;
    const float* noise;  // [K N, L]
    float* z;
};

// First layers of samples and their mirror images, from the products of the samples' noise: row r is that of the centre
// plus its product, row `rows` + r, for the first `images` of them, that of the centre minus it. Rows of the products
// belong to rows first_row, first_row + 1, ... of a block of samples of `n_rows` rows, each with its own centre.
struct MirroredRows {
    int rows;
    int images;
    int columns;  // whole lines
    int stride;   // of product, centre and out
    const float* product;
    const float* centre;  // [n_rows, columns]
    long first_row;
    int n_rows;
    float slope;  // of LeakyReLU; 1 leaves the sums as they are
    float* out;   // [rows + images, columns]
};

// What a block of S samples of N rows adds to the sums of E[x | z]: outputs of numerical columns and their squares,
// class probabilities of categorical ones (whose squares are left at zero).
struct SampleMoments {
    int n_samples;
    int n_rows;
    int n_attributes;
    int n_columns;
    const int* attribute_start;
    const int* attribute_kind;
    const float* output;  // [S N, D]
    int column_stride;
    float* total;    // [N, D], stride column_stride
    float* square;   // [N, D]
    float* scratch;  // [D] for this call alone; null without categorical columns
};

// The samples of one row, `step` floats apart, as deviations from their mean that follow each other by `stride` floats.
struct CentredRow {
    int n_samples;
    int n_columns;
    const float* h;
    long step;
    int stride;
    float* mean;
    float* centred;
};

// Adam with decoupled weight decay (Loshchilov and Hutter 2019) on a flat run of parameters.
struct AdamStep {
    long n;
    float* parameter;
    const float* gradient;
    float* first;
    float* second;
    float gradient_factor;  // of clipping
    float learning_rate;
    float weight_decay;
    float first_correction;   // 1 - beta1^t
    float second_correction;  // 1 - beta2^t
};

}  // namespace vsae
