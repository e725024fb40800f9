// Self-normalised importance sampling of the unobserved attributes (Gong et al. 2021, section 3.4):
//
//   z_k = mean + scale * noise_k                                        k = 1..K, noise shared by all rows
//   log w_k = c * log p(x_o | z_k, pi_k) + log p(m | z_k) + log N(z_k; 0, I) - log q(z_k)
//   imputed = sum_k softmax(log w)_k E[x | z_k, pi_k],   evidence = mean_k w_k,   ESS = (sum w)^2 / sum w^2
//
// `c` is the visible weight (1 in the paper). A row may have several proposals (one for each noise fill of its holes):
// each takes an equal run of the K samples and is its own q. Draws of x_u come from sampling-importance-resampling
// (Rubin 1987): z_k with probability softmax(log w)_k, then x_u ~ p(x_u | z_k).
// Plain structs of shapes and addresses, read by every device's kernel.
#pragma once

namespace vsae {

// One dense layer with its weights packed as in tile.h; `bias` holds padded(n_out) values.
struct DenseLayer {
    int n_in;
    int n_out;
    bool activation;  // LeakyReLU after the layer
    const float* weight;
    const float* bias;
};

enum AttributeKind : int { kNumerical = 0, kCategorical = 1 };

// A numerical attribute with more columns than the last hidden layer has units (an image). With Q R = W / scale,
// |(x - b - W h) / scale|^2 = |R h - u|^2 + rest, where u = Q' (x - b) / scale: width^2 / 2 products a sample become
// n_hidden^2 / 2.
struct WideGaussian {
    int attribute;
    const float* triangle;    // R, upper triangular [H, H], packed by pack_triangle of tile.h
    const float* projection;  // Q [width, H]
};

// The decoders after folding: batch norms and linear tails are gone. The data decoder reads [z, pi].
struct ImportanceImputeModel {
    int n_latent;      // L
    int n_attributes;  // M
    int n_columns;     // D
    int n_hidden;      // H, width of the data decoder's last hidden layer
    int n_mask_layers;
    int n_data_layers;              // hidden layers of the data decoder, the output layer not counted
    const DenseLayer* mask_layers;  // the last one gives the M mask logits
    const DenseLayer* data_layers;
    const float* output_weight;  // [D, H], row-major
    const float* output_bias;    // [D]
    const int* attribute_start;  // [M + 1], first column of each attribute
    const int* attribute_kind;   // [M], AttributeKind
    const float* log_scale;      // [D], log standard deviation of numerical columns
    DenseLayer logits;           // output rows of all categorical columns, one after the other
    const int* first_logit;      // [M], position of a categorical attribute's first column among them
    int n_wide;
    const WideGaussian* wide;  // [n_wide]
    const int* wide_of;        // [M], position in `wide`, -1 for other attributes
    float negative_slope;      // of LeakyReLU, in [0, 1]
    float visible_weight;      // exponent of p(x_o | z)
};

// `noise` and `half_square` are packed by proposal and sample block: noise[proposal][block][L][S] and
// half_square[proposal][block][S] = |noise_k|^2 / 2, -inf where no sample stands; S = samples in one block of the
// kernel, in the order of sample_order.h.
struct ImportanceImputeBatch {
    int n_samples;    // K, a multiple of n_proposals
    int n_proposals;  // P
    int n_blocks;     // of each proposal
    bool mirrored;    // one proposal, whose noise is a mirrored table (sample_order.h)
    const float* noise;
    const float* half_square;
    const float* mean;            // [N, P, L]
    const float* scale;           // [N, P, L]
    const float* x;               // [N, D], anything where unobserved
    const float* mask;            // [N, M], 1 = observed
    const float* context;         // [N, P, C] added to the first data layer's bias, or null
    const double* inverse_scale;  // [D] exp(-log_scale) of numbers, 1 for levels; of the CPU kernel
    float tolerance;              // sampling stops below this relative standard error (sampling_error.h); 0: never
    int n_draws;                  // J
    unsigned long long seed;      // of the draws
    const long long* row_id;      // [N], names each row's random numbers; null without draws
    float* imputed;               // [N, D], x itself where observed
    double* log_evidence;         // [N]
    double* effective_size;       // [N]
    int* n_spent;                 // [N] samples
    float* draws;                 // [N, J, D]
};

}  // namespace vsae
