// Shapes and addresses of one training step of a VSAE, as plain data.
//
// Every matrix is row-major, one row per sample, with a leading dimension of row_stride(columns) floats. Columns past
// the last one, up to whole lines of kLine floats, hold zeros in parameters and gradients, so kernels may run over
// them.
#pragma once

#include "core/importance_impute.h"

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
    float* mean;     // out: of the linear output
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

// Means and sums of squared deviations of columns over the rows first..last-1, [columns] each.
struct RowMoments {
    int first, last;
    float* mean;
    float* square;
};

// Bounds of rows, log mean_k exp(log w_k), and what becomes of the gradients of log-weights.
struct RowBounds {
    double* bound;           // [N]
    double derivative;       // of the loss by each bound
    float* factor;           // [N, K] derivative by each log-weight; gradients are multiplied by it
    float* log_scale_total;  // [D]; such gradients are added to it
};

// Log-weights of K samples of N rows, and their gradients with respect to the decoders' outputs:
//   log w = sum_i weight_i E log p(x_i | z) + log p(m | z) (+ log N(z; 0, I) - log q(z) where `with_prior`)
// A row's samples follow each other, so that they stay with the thread that has the row; noise alone has the order of
// its stream, in which the rows of a sample follow each other.
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
    const float* output;         // [N, K, D]
    const float* mask_logits;    // [N, K, M], or null where the mask is not modelled
    const float* z;              // [N, K, L]
    const float* noise;          // [K, N, L] that gave z, and anything in the columns past L
    const float* log_variance;   // [N, L]
    int column_stride, attribute_stride, latent_stride, noise_stride, z_stride;
    bool with_prior;
    float* log_weight;          // [N, K]
    float* output_gradient;     // [N, K, D]
    float* log_scale_gradient;  // [K, D] of the row that came last
    float* mask_gradient;       // [N, K, M], or null
    float* scratch;             // log_weights_scratch() floats, for this call alone
    long first, last;           // rows to do
    const RowBounds* bounds;
};

// Logits, targets and weights of as many samples as a line has floats.
static constexpr long log_weights_scratch(int n_columns, int n_attributes) {
    return (2L * whole_lines(n_columns) + whole_lines(n_attributes)) * kLine;
}

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
    const float* noise;  // [K, N, L]; null where z is the mean
    float* z;            // [N, K, L]
};

// What the first linear map of a decoder begins with: a row's context, the same for its K samples, and the bias.
struct Context {
    const float* data;  // [N, columns]
    long stride;
    int n_samples;
    const float* bias;
    float* to;  // [N, K, columns]
    long to_stride;
    long first, last;  // samples
    int columns;
};

// From gradients of z to those of mean and log-variance, for K samples of rows first..last-1.
struct LatentGradient {
    int n_samples;
    int first, last;
    int n_latent;
    int latent_stride;
    int z_stride;
    const float* mean;
    const float* z;           // [N, K, L]
    const float* z_gradient;  // [N, K, L]
    const float* factor;      // [N, K] of log N(z; 0, I) - log q(z) in the loss, or null
    bool accumulate;          // to what the gradients are already
    float* mean_gradient;
    float* log_variance_gradient;
};

// KL(N(mean, exp(log_variance)) || N(0, I)) of each row, and `factor` times its derivatives where they are asked for.
struct KlDivergence {
    int n_rows;
    int n_latent;
    int stride;
    const float* mean;
    const float* log_variance;
    double* kl;  // [n_rows]
    float factor;
    float* mean_gradient;  // or null, both
    float* log_variance_gradient;
};

// Gaussian experts of all latents, one for each attribute, and their product over a row's visible attributes, for rows
// first..last-1.
struct Experts {
    int n_attributes;
    int n_latent;
    int first, last;
    int attribute_stride;
    int latent_stride;
    const float* visible;           // [N, M]
    const float* const* proposals;  // of each attribute [N, 2, latent_stride]: means and log-variances
    float* mean;                    // [N, L]
    float* log_variance;
};

// Rows of which sample_moments decodes one to a lane.
inline constexpr int kRowsPerGroup = 16;
// Samples from one draw of noise: the signs of its first and second half of latents, ++, --, +-, -+.
inline constexpr int kQuartet = 4;

// A group of rows as sample_moments takes it: their scales, and the first layers of both decoders where z is the mean.
struct SampledRows {
    int n_rows;
    int n_latent;
    int latent_stride;
    const float* mean;  // [n_rows, L]
    const float* log_variance;
    const float* context;  // [n_rows, outputs of the first data layer], or null
    int context_stride;
    DenseLayer mask_layer, data_layer;  // the first ones
    float* latents;                     // [L, 16], for this call alone
    float* scale;                       // [L, 16]
    float* mask_centre;                 // [padded outputs, 16]
    float* data_centre;
};

// Samples of z of a group of rows, and the sums of E[x | z] over them: outputs of numerical columns and their squares,
// class probabilities of categorical ones, whose squares are zero.
struct SampleMoments {
    int n_samples;
    int n_rows;
    int n_latent;
    int n_mask_layers, n_data_layers;
    const DenseLayer* mask_layers;  // the last one gives the logits
    const DenseLayer* data_layers;  // but for the output layer
    float slope;                    // of LeakyReLU
    const float* scale;             // [L, 16]
    const float* mask_centre;
    const float* data_centre;
    const float* noise;  // [L, 16] of each quartet
    long noise_step;
    const DenseLayer* output;  // of the attributes that are decoded, or null
    int n_attributes;
    const int* attribute_start;  // first output of each
    const int* attribute_kind;
    float* total;   // [outputs, 16]
    float* square;  // [outputs, 16]
    float* hidden;  // where the last hidden vectors of sample k and row r go, k hidden_step + r hidden_stride; or null
    long hidden_step;
    int hidden_stride;
    // For this call alone:
    float* deviation;                    // [L, 16]
    float *mask_product, *data_product;  // [2, padded outputs of the first layer, 16]
    float *even, *odd;                   // [padded outputs of the widest layer, 32]
    float* probability;                  // [padded outputs of the mask decoder, 32]
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
