/* A double of the few functions of Core Foundation and Security.framework that the Keychain is asked through: enough
   to see that arguments arrive as they were meant, that constants are taken by name, and that nothing is leaked. */
#include <stdlib.h>
#include <string.h>

enum { CONSTANT, STRING, BYTES, DICTIONARY };
enum { MAX_ENTRIES = 16, MAX_ITEMS = 16, NOT_FOUND = -25300, DUPLICATE = -25299, PARAMETER = -50 };

typedef struct object {
    int kind, references;
    long length;
    unsigned char *bytes;
    struct object *keys[MAX_ENTRIES], *values[MAX_ENTRIES];
} object;

long live_objects = 0; /* made and not released; items of the Keychain do not count */
int fail_to_make = 0;

#define CONSTANT_OBJECT(name)                    \
    static object name##_object = {CONSTANT, 1}; \
    object *name = &name##_object;
CONSTANT_OBJECT(kCFBooleanTrue)
CONSTANT_OBJECT(kCFBooleanFalse)
CONSTANT_OBJECT(kSecClass)
CONSTANT_OBJECT(kSecClassGenericPassword)
CONSTANT_OBJECT(kSecAttrService)
CONSTANT_OBJECT(kSecAttrAccount)
CONSTANT_OBJECT(kSecAttrSynchronizable)
CONSTANT_OBJECT(kSecAttrAccessible)
CONSTANT_OBJECT(kSecAttrAccessibleAfterFirstUnlockThisDeviceOnly)
CONSTANT_OBJECT(kSecValueData)
CONSTANT_OBJECT(kSecReturnData)
CONSTANT_OBJECT(kSecMatchLimit)
CONSTANT_OBJECT(kSecMatchLimitOne)
char kCFTypeDictionaryKeyCallBacks[48], kCFTypeDictionaryValueCallBacks[48];

static object *make(int kind, const void *bytes, long length) {
    if (fail_to_make) return NULL;
    object *made = calloc(1, sizeof *made);
    made->kind = kind;
    made->references = 1;
    made->length = length;
    made->bytes = malloc(length + 1);
    memcpy(made->bytes, bytes, length);
    live_objects++;
    return made;
}

void CFRelease(object *released) {
    if (released->kind == CONSTANT || --released->references > 0) return;
    if (released->kind == DICTIONARY)
        for (long i = 0; i < released->length; i++) CFRelease(released->values[i]);
    free(released->bytes);
    free(released);
    live_objects--;
}

object *CFStringCreateWithBytes(void *none, const char *bytes, long length, unsigned encoding, unsigned char external) {
    return none == NULL && encoding == 0x08000100 && !external ? make(STRING, bytes, length) : NULL;
}
object *CFDataCreate(void *none, const char *bytes, long length) { return make(BYTES, bytes, length); }
long CFDataGetLength(object *found) { return found->length; }
const unsigned char *CFDataGetBytePtr(object *found) { return found->bytes; }

object *CFDictionaryCreateMutable(void *none, long capacity, void *keys, void *values) {
    if (keys != kCFTypeDictionaryKeyCallBacks || values != kCFTypeDictionaryValueCallBacks) return NULL;
    object *made = make(DICTIONARY, "", 0);
    return made;
}
void CFDictionarySetValue(object *dictionary, object *key, object *value) {
    value->references++;
    dictionary->keys[dictionary->length] = key;
    dictionary->values[dictionary->length++] = value;
}

static struct { int used; char service[256], account[256]; unsigned char secret[1024]; long length; } items[MAX_ITEMS];

static object *value_of(object *dictionary, object *key) {
    for (long i = 0; i < dictionary->length; i++)
        if (dictionary->keys[i] == key) return dictionary->values[i];
    return NULL;
}
static int is_text(object *text, const char *other) {
    return (long)strlen(other) == text->length && memcmp(text->bytes, other, text->length) == 0;
}
static int place_of(object *query) {
    object *service = value_of(query, kSecAttrService), *account = value_of(query, kSecAttrAccount);
    if (!service || !account || service->kind != STRING || account->kind != STRING) return PARAMETER;
    if (value_of(query, kSecClass) != kSecClassGenericPassword) return PARAMETER;
    if (value_of(query, kSecAttrSynchronizable) != kCFBooleanFalse) return PARAMETER;
    for (int i = 0; i < MAX_ITEMS; i++)
        if (items[i].used && is_text(service, items[i].service) && is_text(account, items[i].account)) return i;
    return NOT_FOUND;
}
static int keep(int place, object *changes) {
    object *secret = value_of(changes, kSecValueData);
    if (!secret || secret->kind != BYTES) return PARAMETER;
    if (value_of(changes, kSecAttrAccessible) != kSecAttrAccessibleAfterFirstUnlockThisDeviceOnly) return PARAMETER;
    memcpy(items[place].secret, secret->bytes, items[place].length = secret->length);
    return 0;
}

int SecItemAdd(object *attributes, object **result) {
    int place = place_of(attributes);
    if (result || place == PARAMETER) return PARAMETER;
    if (place >= 0) return DUPLICATE;
    for (place = 0; items[place].used; place++);
    object *service = value_of(attributes, kSecAttrService), *account = value_of(attributes, kSecAttrAccount);
    memcpy(items[place].service, service->bytes, service->length);
    memcpy(items[place].account, account->bytes, account->length);
    items[place].service[service->length] = items[place].account[account->length] = 0;
    items[place].used = 1;
    return keep(place, attributes);
}
int SecItemUpdate(object *query, object *changes) {
    int place = place_of(query);
    return place < 0 ? place : keep(place, changes);
}
int SecItemDelete(object *query) {
    int place = place_of(query);
    if (place < 0) return place;
    items[place].used = 0;
    return 0;
}
int SecItemCopyMatching(object *query, object **result) {
    int place = place_of(query);
    if (value_of(query, kSecReturnData) != kCFBooleanTrue) return PARAMETER;
    if (value_of(query, kSecMatchLimit) != kSecMatchLimitOne) return PARAMETER;
    if (place >= 0) *result = make(BYTES, items[place].secret, items[place].length);
    return place < 0 ? place : 0;
}
