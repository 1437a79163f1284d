/* Tokens of a kernel's text. Text between tokens (blanks, comments, line splices) belongs to no token, so that a writer
 * who copies what lies between keeps the user's lines. */
#ifndef INVAR_JIT_LEXER_H
#define INVAR_JIT_LEXER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    INVAR_TOKEN_NAME = 1,  /* identifiers and keywords */
    INVAR_TOKEN_NUMBER,    /* a preprocessing number: 1.5e-3f, 0x1p4, 1'000u */
    INVAR_TOKEN_STRING,    /* "...", R"(...)", prefixes included */
    INVAR_TOKEN_CHARACTER, /* '...' */
    INVAR_TOKEN_MARK       /* one character of punctuation; `::`, `->` and `##` are one token */
};

/* Where a token stands. CODE: in a function's body. */
enum { INVAR_SCOPE_NAMESPACE = 0, INVAR_SCOPE_STRUCT, INVAR_SCOPE_CODE, INVAR_SCOPE_LIST /* enumerators, initialisers */ };

/* The loops around a token. COUNTED: `for (T i = ...; i < ...; ...)`, which ends whatever other threads do. */
enum { INVAR_LOOP_NONE = 0, INVAR_LOOP_COUNTED, INVAR_LOOP_WAITING };

typedef struct invar_token {
    uint32_t start, length; /* bytes of the text */
    int32_t line;           /* of its first byte, counted from 1 */
    int32_t partner;        /* the bracket that closes or opens this one; -1 */
    int32_t directive;      /* the token `#` of the preprocessor line it stands in; -1 */
    int32_t function;       /* the user's function it stands in (jit/source.h); -1 */
    int32_t value;          /* the rule's */
    uint8_t kind;           /* INVAR_TOKEN_... */
    uint8_t scope;          /* INVAR_SCOPE_... */
    uint8_t rule;           /* how it is written (jit/source.h) */
    uint8_t loop;           /* INVAR_LOOP_...: the loops around it */
    uint8_t before;         /* what is written before it: INVAR_BEFORE_... */
    bool declares;          /* it is the name of a function where that is defined or declared */
} invar_token;

/* One text: a kernel's header or its body. */
typedef struct invar_file {
    const char *text;
    size_t length;
    invar_token *tokens;
    int32_t count, capacity;
    bool conditional; /* it holds an #if, so its brackets need not pair */
} invar_file;

enum {
    INVAR_LEX_OK = 0,
    INVAR_LEX_MEMORY,
    INVAR_LEX_COMMENT, /* a comment or raw string that does not end */
    INVAR_LEX_BRACKET, /* a bracket without its partner */
    INVAR_LEX_LENGTH   /* text above INVAR_LEX_LIMIT bytes */
};

enum { INVAR_LEX_LIMIT = 1 << 20 };

typedef struct invar_lex_failure {
    int32_t line;
    char bracket; /* of INVAR_LEX_BRACKET */
} invar_lex_failure;

/* Fills file->tokens from file->text (file->length bytes) and pairs brackets. On failure *failure is where. */
int invar_lex(invar_file *file, invar_lex_failure *failure);
void invar_file_free(invar_file *file);

/* True when token i is there and reads `word`. */
bool invar_token_is(const invar_file *file, int32_t i, const char *word);
/* True when token i is there and reads as one of the words, which NULL ends. */
bool invar_token_is_one_of(const invar_file *file, int32_t i, const char *const *words);
/* True when token i is there and is one of these characters of punctuation. */
bool invar_token_is_any(const invar_file *file, int32_t i, const char *marks);
/* True when token i stands behind a `.` or `->`. */
bool invar_token_is_member(const invar_file *file, int32_t i);
/* True when two tokens read alike. */
bool invar_token_same(const invar_file *file, int32_t i, const invar_file *other, int32_t k);
/* True when token i is there and is a name. */
static inline bool invar_token_names(const invar_file *file, int32_t i) {
    return i >= 0 && i < file->count && file->tokens[i].kind == INVAR_TOKEN_NAME;
}

/* The token behind the template arguments that open at token i, a `<`; -1 where it opens none. */
int32_t invar_after_angles(const invar_file *file, int32_t i);
/* The token behind a template's parameters, which open at token i, a `<`, and may have defaults; -1 where they do not end. */
int32_t invar_after_parameters(const invar_file *file, int32_t i);

#endif
