// Sizes of the memory that one thread of importance_impute works in. Nothing in it grows with N; only the log-weights
// kept for draws grow with K.
#pragma once

#include "core/importance_impute.h"
#include "core/tile.h"
#include "cpu/sample_block.h"

namespace vsae {
namespace VSAE_ISA {

struct ImputeScratch {
    float* input;              // [L + M, S], z then pi
    float* hidden[2];          // [widest layer, S], layers alternate between the two
    float* output;             // [H, S] where there are wide numerical attributes
    float* logits;             // [categorical columns, S]
    const float** output_row;  // [narrow numerical columns that this row observes], weights of each, padded
    float* output_bias;        // theirs, less the observed value
    float* output_inverse;     // 1 / scale
    float* wide_bias;          // [n_wide, padded(H)]
    float* context_bias;       // [P, padded width of the first data layer]
    float* proposal_offset;    // [P]
    float* mean_quads;         // [L, rows of a tile], the proposal's mean
    float* mask_centre;        // [padded width] of the first layers: bias and weights times the proposal's mean,
    float* data_centre;        //   where the noise is a mirrored table
    float* mask_product;       // [padded width, S / 2], weights times scaled noise, for a block's samples and their
    float* data_product;       //   images
    float* hidden_sum;         // [H, lanes with a sum], weighted sum of the last hidden vector
    float* class_sum;          // [categorical columns, lanes with a sum], weighted sum of the class probabilities
    double* projected;         // [H], once a row
    double* before;            // [D, segments of a block], weighted sums up to the last look
    double* square;            // [D] sum of squares of the segments' sums; all three where a tolerance is given
    double* cross;             // [D] sum of their products with the segments' weights
    float* log_weight;         // [P, blocks, S], where draws are wanted
    double* cumulative;        // [K]
};

static inline int widest_layer(const ImportanceImputeModel& model) {
    int widest = model.n_hidden;
    for (int i = 0; i < model.n_mask_layers; ++i)
        widest = model.mask_layers[i].n_out > widest ? model.mask_layers[i].n_out : widest;
    for (int i = 0; i < model.n_data_layers; ++i)
        widest = model.data_layers[i].n_out > widest ? model.data_layers[i].n_out : widest;
    return widest;
}

static inline int narrow_columns(const ImportanceImputeModel& model) {
    int columns = 0;
    for (int a = 0; a < model.n_attributes; ++a)
        if (model.attribute_kind[a] == kNumerical && model.wide_of[a] < 0)
            columns += model.attribute_start[a + 1] - model.attribute_start[a];
    return columns;
}

// Lays the arrays out from `base` and returns how many floats they take; with a null base it only counts.
static inline long lay_out(const ImportanceImputeModel& model, const ImportanceImputeBatch& batch, float* base,
                           ImputeScratch* scratch) {
    long used = 0;
    const auto take = [&](long floats) {
        float* p = base ? base + used : nullptr;
        used += (floats + 15) / 16 * 16;  // 64-byte lines
        return p;
    };
    const auto take_doubles = [&](long doubles) { return reinterpret_cast<double*>(take(2 * doubles)); };
    const long widest = padded(widest_layer(model));
    const long narrow = narrow_columns(model) + kMostRowsAtOnce;
    const long hidden = padded(model.n_hidden);
    const long logits = padded(model.logits.n_out);
    const long columns = batch.tolerance > 0 ? model.n_columns : 0;
    const bool draws = batch.n_draws > 0;
    scratch->input = take(static_cast<long>(model.n_latent + model.n_attributes) * kBlock);
    scratch->hidden[0] = take(widest * kBlock);
    scratch->hidden[1] = take(widest * kBlock);
    scratch->output = take(model.n_wide ? hidden * kBlock : 0);
    scratch->logits = take(logits * kBlock);
    scratch->output_row = reinterpret_cast<const float**>(take_doubles(narrow));  // of the same size at most
    scratch->output_bias = take(narrow);
    scratch->output_inverse = take(narrow);
    scratch->wide_bias = take(model.n_wide * hidden);
    scratch->context_bias = take(batch.n_proposals * widest);
    scratch->proposal_offset = take(batch.n_proposals);
    const long mask_width = batch.mirrored ? padded(model.mask_layers[0].n_out) : 0;
    const long data_width = batch.mirrored ? padded(model.data_layers[0].n_out) : 0;
    scratch->mean_quads = take(batch.mirrored ? static_cast<long>(model.n_latent) * kTileRows : 0);
    scratch->mask_centre = take(mask_width);
    scratch->data_centre = take(data_width);
    scratch->mask_product = take(mask_width * kBlockLanes);
    scratch->data_product = take(data_width * kBlockLanes);
    scratch->hidden_sum = take(static_cast<long>(model.n_hidden) * kSumLanes);
    scratch->class_sum = take(logits * kSumLanes);
    scratch->projected = take_doubles(model.n_hidden);
    scratch->before = take_doubles(columns * kSegmentsPerBlock);
    scratch->square = take_doubles(columns);
    scratch->cross = take_doubles(columns);
    scratch->log_weight = take(draws ? static_cast<long>(batch.n_proposals) * batch.n_blocks * kBlock : 0);
    scratch->cumulative = take_doubles(draws ? batch.n_samples : 0);
    return used;
}

}  // namespace VSAE_ISA
}  // namespace vsae
