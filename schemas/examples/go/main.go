// Writes the same two rows to Peristyle as MessagePack by columns, and as an Arrow IPC stream.
//
//	go run . http://127.0.0.1:8086 [TOKEN]
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/vmihailenco/msgpack/v5"
)

const begin = 1_700_000_000_000_000_000

// Keeps its connection: one client for each process is enough.
var client = http.Client{Timeout: 30 * time.Second}

// post sends a body; rows are on disk, synced, when the answer is 204.
func post(url, token string, body []byte) error {
	// 503 says that nothing was stored: send the same bytes again, they are stored once.
	for attempt := 0; ; attempt++ {
		request, err := http.NewRequest("POST", url, bytes.NewReader(body))
		if err != nil {
			return err
		}
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		answer, err := client.Do(request)
		if err != nil {
			return err
		}
		text, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		switch {
		case answer.StatusCode == http.StatusNoContent:
			return nil
		case answer.StatusCode == http.StatusServiceUnavailable && attempt < 10:
			time.Sleep(time.Second)
		default:
			return fmt.Errorf("%s: %s", answer.Status, text)
		}
	}
}

// byColumns: every column is an array; `tag_keys` says which ones are tags.
func byColumns() ([]byte, error) {
	return msgpack.Marshal(map[string]any{
		"m": "go_msgpack",
		"columns": map[string]any{
			"time":  []int64{begin, begin + 1},
			"room":  []string{"hall", "attic"},
			"level": []any{1.25, nil},
			"open":  []bool{true, false},
		},
		"tag_keys": []string{"room"},
	})
}

// byArrow: a record batch as it is in memory; the measurement is in the address.
func byArrow() ([]byte, error) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "time", Type: &arrow.TimestampType{Unit: arrow.Nanosecond, TimeZone: "UTC"}},
		{Name: "room", Type: arrow.BinaryTypes.String},
		{Name: "level", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "open", Type: arrow.FixedWidthTypes.Boolean},
	}, nil)
	builder := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer builder.Release()
	times := []arrow.Timestamp{begin, begin + 1}
	builder.Field(0).(*array.TimestampBuilder).AppendValues(times, nil)
	builder.Field(1).(*array.StringBuilder).AppendValues([]string{"hall", "attic"}, nil)
	builder.Field(2).(*array.Float64Builder).AppendValues([]float64{1.25, 0}, []bool{true, false})
	builder.Field(3).(*array.BooleanBuilder).AppendValues([]bool{true, false}, nil)
	record := builder.NewRecordBatch()
	defer record.Release()

	var body bytes.Buffer
	writer := ipc.NewWriter(&body, ipc.WithSchema(schema))
	if err := writer.Write(record); err != nil {
		return nil, err
	}
	return body.Bytes(), writer.Close()
}

func run(url, token string) error {
	body, err := byColumns()
	if err != nil {
		return err
	}
	if err := post(url+"/api/v1/write/msgpack?db=examples", token, body); err != nil {
		return err
	}
	body, err = byArrow()
	if err != nil {
		return err
	}
	query := "?db=examples&measurement=go_arrow&tags=room"
	return post(url+"/api/v1/write/arrow"+query, token, body)
}

func main() {
	url, token := "http://127.0.0.1:8086", ""
	if len(os.Args) > 1 {
		url = os.Args[1]
	}
	if len(os.Args) > 2 {
		token = os.Args[2]
	}
	if err := run(url, token); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
