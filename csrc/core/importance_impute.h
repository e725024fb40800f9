// Self-normalised importance sampling of the unobserved attributes (Gong et al. 2021, section 3.4):
//
//   z_k = mean + scale * noise_k                                        k = 1..K, noise shared by all rows
//   log w_k = c * log p(x_o | z_k, pi_k) + log p(m | z_k) + log N(z_k; 0, I) - log q(z_k)
//   imputed = sum_k softmax(log w)_k E[x | z_k, pi_k],   evidence = mean_k w_k,   ESS = (sum w)^2 / sum w^2
//
// `c` is the visible weight (1 in the paper). Plain structs of shapes and addresses, read by every device's kernel.
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

// The decoders after folding: batch norms and linear tails are gone. The data decoder reads [z, pi].
struct ImportanceImputeModel {
    int n_latent;      // L
    int n_attributes;  // M
    int n_columns;     // D
    int n_hidden;      // width of the data decoder's last hidden layer
    int n_mask_layers;
    int n_data_layers;              // hidden layers of the data decoder, the output layer not counted
    const DenseLayer* mask_layers;  // the last one gives the M mask logits
    const DenseLayer* data_layers;
    const float* output_weight;  // [D, n_hidden], row-major
    const float* output_bias;    // [D]
    const int* attribute_start;  // [M + 1], first column of each attribute
    const int* attribute_kind;   // [M], AttributeKind
    const float* log_scale;      // [D], log standard deviation of numerical columns
    float negative_slope;        // of LeakyReLU, in [0, 1]
    float visible_weight;        // exponent of p(x_o | z)
};

// `noise` and `half_square` are packed by sample block: noise[block][L][S], half_square[block][S] with
// half_square = |noise_k|^2 / 2 and -inf where k >= K; S = samples in one block of the kernel.
struct ImportanceImputeBatch {
    int n_samples;  // K
    int n_blocks;   // ceil(K / S)
    const float* noise;
    const float* half_square;
    const float* mean;       // [N, L]
    const float* scale;      // [N, L]
    const float* x;          // [N, D], anything finite where unobserved
    const float* mask;       // [N, M], 1 = observed
    const float* context;    // [N, C] added to the first data layer's bias, or null
    float* imputed;          // [N, D], x itself where observed
    double* log_evidence;    // [N]
    double* effective_size;  // [N]
};

}  // namespace vsae
